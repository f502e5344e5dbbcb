"""Settings of every Kafka client and of producers: argument > environment > file."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from fleetwake.producer.policy import Policy  # noqa: TC001  # pydantic reads it
from fleetwake.producer.security import contradictions, security_options
from fleetwake.schemas.errors import ConfigurationError
from fleetwake.schemas.topics import (
    DEFAULT_PARTITIONS,
    DEFAULT_PREFIX,
    MAX_RECORD_BYTES,
)

if TYPE_CHECKING:
    from fleetwake.schemas.topics import Topic

__all__ = [
    "ContentSettings",
    "KafkaSettings",
    "ProducerSettings",
    "RegistrySettings",
    "SettingsBase",
    "config_file",
]

# BLAKE2b takes no longer one.
_MAX_KEY_BYTES: Final = 64

_MAX_PORT: Final = 65_535
# A name or an IPv4 address, or an IPv6 address in brackets.
_SERVER: Final = re.compile(
    r"(?:[^\s:/@\[\]]+|\[[^\s/@\]]+\])(?::(?P<port>[0-9]{1,5}))?"
)


def config_file() -> Path:
    """The settings file: `FLEETWAKE_CONFIG`, else `fleetwake.toml` here."""
    import os

    return Path(os.environ.get("FLEETWAKE_CONFIG", "fleetwake.toml"))


class SettingsBase(BaseSettings):
    """
    Settings of one room: argument > environment > table of the file > default.

    A subclass names its table of the TOML file as `toml_table_header`.
    """

    model_config = SettingsConfigDict(
        extra="forbid",
        populate_by_name=True,
        # One of them may be a password.
        hide_input_in_errors=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the file below the environment."""
        return init_settings, env_settings, _file_table(settings_cls)


def _file_table(settings_cls: type[BaseSettings]) -> TomlConfigSettingsSource:
    """Read one table of the settings file; nothing where there is none."""
    path = config_file()
    try:
        return TomlConfigSettingsSource(settings_cls, path)
    except KeyError:  # the file is about other rooms
        return TomlConfigSettingsSource(settings_cls, None)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"settings file {path}: {error}") from error


class KafkaSettings(SettingsBase):
    """How every client reaches Kafka. Environment: `FLEETWAKE_KAFKA_...`."""

    model_config = SettingsConfigDict(
        env_prefix="FLEETWAKE_KAFKA_", toml_table_header=("kafka",)
    )

    bootstrap_servers: str = Field(
        default="127.0.0.1:19092",
        validation_alias=AliasChoices(
            "FLEETWAKE_KAFKA_BOOTSTRAP_SERVERS",
            "KAFKA_BOOTSTRAP_SERVERS",
            "bootstrap_servers",
        ),
        description="host:port, comma separated. Default: the embedded broker.",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = (
        Field(
            default="PLAINTEXT",
            description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.",
        )
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="PLAIN", description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."
    )
    sasl_username: str | None = Field(default=None, description="SASL user.")
    sasl_password: SecretStr | None = Field(default=None, description="SASL password.")
    sasl_password_file: Path | None = Field(
        default=None,
        description="File of the SASL password; read again for each new connection.",
    )
    ssl_cafile: Path | None = Field(
        default=None, description="CA certificates, PEM. None: those of the system."
    )
    ssl_certfile: Path | None = Field(
        default=None, description="Client certificate, PEM."
    )
    ssl_keyfile: Path | None = Field(
        default=None, description="Client key, PEM. None: it is in the certificate's."
    )
    ssl_key_password: SecretStr | None = Field(default=None, description="Of the key.")
    ssl_check_hostname: bool = Field(
        default=True, description="The broker's certificate must be for its host."
    )
    topic_prefix: str = Field(
        default=DEFAULT_PREFIX, description="Before every topic name."
    )
    partitions: int = Field(
        default=DEFAULT_PARTITIONS, ge=1, description="Of every session-keyed topic."
    )
    replication_factor: int = Field(
        default=1, ge=1, description="Of topics that we create."
    )

    def topic(self, topic: Topic) -> str:
        """The topic's full name in Kafka."""
        return self.topic_prefix + topic.name

    def group(self, service: str) -> str:
        """The consumer group of a service: one deployment, one prefix, one group."""
        return self.topic_prefix + service

    def client_options(self) -> dict[str, Any]:
        """
        Options for any aiokafka client, with what its files hold now.

        Raises:
            CredentialsError: a file of them cannot be used.
        """
        security = security_options(self)
        return {"bootstrap_servers": self.bootstrap_servers, **security}

    @field_validator("bootstrap_servers")
    @classmethod
    def _check_servers(cls, servers: str) -> str:
        if not all(_is_server(one.strip()) for one in servers.split(",")):
            # Not quoted: whoever gives a URL may have put a password into it.
            raise ValueError("is no list of host:port")
        return servers

    @model_validator(mode="after")
    def _check_security(self) -> Self:
        if problems := list(contradictions(self)):
            # No ValueError: pydantic would name no setting.
            raise ConfigurationError("; ".join(problems))
        return self


def _is_server(text: str) -> bool:
    if found := _SERVER.fullmatch(text):
        return int(found["port"] or 0) <= _MAX_PORT
    try:
        socket.inet_pton(socket.AF_INET6, text)
    except (OSError, UnicodeError):
        return False
    return True


class ProducerSettings(SettingsBase):
    """How a producer queues and sends. Environment: `FLEETWAKE_PRODUCER_...`."""

    model_config = SettingsConfigDict(
        env_prefix="FLEETWAKE_PRODUCER_", toml_table_header=("producer",)
    )

    durability: Literal["spool", "memory"] = Field(
        default="spool",
        description="Where events wait for Kafka: on disk, or with the process.",
    )
    queue_max_events: int = Field(
        default=20_000, ge=1, description="Events in memory that wait for the spool."
    )
    queue_max_bytes: int = Field(
        default=64 * 1024 * 1024, ge=1, description="The same in bytes, roughly."
    )
    on_full: Literal["drop_newest", "drop_oldest", "block"] = Field(
        default="drop_newest",
        description="When queue or spool is full. Drops are counted.",
    )
    spool_dir: Path | None = Field(
        default=None, description="Of the spools. Default: `spool` in FLEETWAKE_HOME."
    )
    spool_max_bytes: int = Field(
        default=1024**3, ge=1024 * 1024, description="Of one process's spool."
    )
    spool_max_age_s: float = Field(
        default=7 * 86_400.0, gt=0, description="Older events in it are dropped."
    )
    spool_durable: bool = Field(
        default=False,
        description="Survive a loss of power too, not only a crash: slower.",
    )
    block_timeout_s: float = Field(
        default=1.0, gt=0, description="The longest that emit waits with on_full=block."
    )
    batch_bytes: int = Field(
        default=256 * 1024,
        ge=1,
        le=MAX_RECORD_BYTES,
        description="Of one batch to one partition, uncompressed.",
    )
    commit_s: float = Field(
        default=0.005,
        ge=0,
        description="From the first event after a pause to its commit to the spool.",
    )
    linger_s: float = Field(
        default=0.05,
        ge=0,
        description="From a commit to the send that it shares with those after it, "
        "unless a flush or close waits.",
    )
    compression: Literal["none", "lz4", "zstd", "gzip", "snappy"] = Field(
        default="zstd", description="Of a batch."
    )
    ack_timeout_s: float = Field(
        default=120.0,
        gt=0,
        description="Without an acknowledgement: begin with a new client.",
    )
    exit_timeout_s: float = Field(
        default=5.0,
        ge=0,
        description="The longest that the end of the process is held up.",
    )
    max_sessions: int = Field(
        default=10_000, ge=1, description="Sessions whose sequence is kept at a time."
    )
    mark_on_close: bool = Field(
        default=True, description="End every session's run with a producer.close event."
    )
    host: str | None = Field(
        default_factory=socket.gethostname, description="Where an event names none."
    )
    environment: str | None = Field(
        default=None, description="production, staging, ...: where an event names none."
    )


class ContentSettings(SettingsBase):
    """What of the content leaves the process. Environment: `FLEETWAKE_CONTENT_...`."""

    model_config = SettingsConfigDict(
        env_prefix="FLEETWAKE_CONTENT_", toml_table_header=("content",)
    )

    policy: Policy = Field(
        default="full", description="full, metadata, hash or none (docs/content.md)."
    )
    tools: dict[str, Policy] = Field(
        default={},
        description="The policy of single tools, by name or glob.",
    )
    redact: bool = Field(default=True, description="Take credentials out.")
    redact_names: tuple[str, ...] = Field(
        default=(), description="More names (keys, headers) whose values are secret."
    )
    redact_patterns: dict[str, str] = Field(
        default={},
        description="More regular expressions, by the name of what they find.",
    )
    max_payload_bytes: int = Field(
        default=256 * 1024,
        ge=1024,
        le=MAX_RECORD_BYTES * 3 // 4,
        description="Of a payload; of a longer one long strings are cut.",
    )
    digest_key: SecretStr | None = Field(
        default=None, description="Keys the digests, 64 bytes at most. None: no key."
    )
    hot_session_rate: float | None = Field(
        default=None,
        gt=0,
        description="Events per second and session that keep their payload. None: all.",
    )
    hot_session_burst: int = Field(
        default=200, ge=1, description="Events of a session that may come at once."
    )

    @field_validator("redact_patterns")
    @classmethod
    def _check_patterns(cls, patterns: dict[str, str]) -> dict[str, str]:
        for name, pattern in patterns.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"pattern {name!r}: {error}") from error
        return patterns

    @field_validator("digest_key")
    @classmethod
    def _check_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key and len(key.get_secret_value().encode()) > _MAX_KEY_BYTES:
            raise ValueError(f"it has more than {_MAX_KEY_BYTES} bytes")
        return key

    def key(self) -> bytes:
        """The key of digests, or no bytes."""
        return self.digest_key.get_secret_value().encode() if self.digest_key else b""

    def patterns(self) -> dict[str, re.Pattern[str]]:
        """The patterns, compiled."""
        return {name: re.compile(text) for name, text in self.redact_patterns.items()}


class RegistrySettings(SettingsBase):
    """A Confluent schema registry. Environment: `FLEETWAKE_REGISTRY_...`."""

    model_config = SettingsConfigDict(
        env_prefix="FLEETWAKE_REGISTRY_", toml_table_header=("registry",)
    )

    url: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices(
            "FLEETWAKE_REGISTRY_URL", "SCHEMA_REGISTRY_URL", "url"
        ),
        description="Its address; user:password@ may stand in it. None: no registry.",
    )
    username: str | None = Field(
        default=None, description="Basic authentication: user."
    )
    password: SecretStr | None = Field(default=None, description="The same: password.")
    timeout_s: float = Field(default=5.0, gt=0, description="Of one request.")
    fallback_after_s: float = Field(
        default=1.0,
        ge=0,
        description="Without an answer at start: write single-object framing for now. "
        "Until then nothing is in the spool.",
    )
