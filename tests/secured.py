"""The embedded Kafka with the listeners of real clusters, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr
from tests.certificates import Authority
from tests.conftest import Kafka, find_ports

from fleetwake.consumers.broker import EmbeddedKafka
from fleetwake.consumers.broker.config import HOST

if TYPE_CHECKING:
    from pathlib import Path

    from fleetwake.producer.settings import KafkaSettings

USER: Final = "fleet"
# They may do only what a test gives them the right to.
AGENT, SERVICE = "agent", "service"
PASSWORD: Final = "open=sesame"
PASSPHRASE: Final = "words that open the key"
_SCRAM_USER: Final = f"[name={USER},password={PASSWORD}]"

_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
_AUTHORIZER = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"


class SecuredKafka(Kafka):
    """
    A broker with five listeners beside its plain one.

    `sasl` is SASL_SSL, PLAIN and SCRAM-SHA-512; `mtls` is SSL that asks for client
    certificates; `tls` is SSL without; `other` is SSL with a certificate for another
    host, and an address that nobody listens on; `clear` is SASL without TLS.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.client = self.authority.issue("agent", passphrase=PASSPHRASE)
        plain, control, *ports = find_ports(7)
        names = ("sasl", "mtls", "tls", "other", "clear")
        self.at = {
            name: f"{HOST}:{port}" for name, port in zip(names, ports, strict=True)
        }
        self.broker = EmbeddedKafka(
            folder / "kafka",
            port=plain,
            controller_port=control,
            properties=self._properties(plain, control),
            format_options=("--add-scram", f"SCRAM-SHA-512={_SCRAM_USER}"),
        )
        super().__init__(self.broker.bootstrap_servers)

    def settings(self, **overrides: Any) -> KafkaSettings:
        """As of any Kafka, with one partition: it is not their number that is tried."""
        return super().settings(**{"partitions": 1} | overrides)

    def sasl(self, mechanism: str = "SCRAM-SHA-512", **own: Any) -> KafkaSettings:
        """Settings of the usual cluster: SASL_SSL."""
        return self.settings(
            **{
                "bootstrap_servers": self.at["sasl"],
                "security_protocol": "SASL_SSL",
                "sasl_mechanism": mechanism,
                "sasl_username": USER,
                "sasl_password": PASSWORD,
                "ssl_cafile": self.authority.certificate,
            }
            | own
        )

    def mtls(self, **own: Any) -> KafkaSettings:
        """Settings of a cluster that knows its clients by their certificates."""
        return self.settings(
            **{
                "bootstrap_servers": self.at["mtls"],
                "security_protocol": "SSL",
                "ssl_cafile": self.authority.certificate,
                "ssl_certfile": self.client.certificate,
                "ssl_keyfile": self.client.key,
                "ssl_key_password": PASSPHRASE,
            }
            | own
        )

    def tls(self, at: str = "tls", **own: Any) -> KafkaSettings:
        """Settings of TLS alone."""
        return self.settings(
            **{
                "bootstrap_servers": self.at[at],
                "security_protocol": "SSL",
                "ssl_cafile": self.authority.certificate,
            }
            | own
        )

    def _properties(self, plain: int, control: int) -> dict[str, str]:
        own = self.authority.issue("broker", HOST, "localhost")
        other = self.authority.issue("other", "kafka.example.com")
        plainly = {"PLAINTEXT": f"{HOST}:{plain}"}
        listeners = plainly | {name.upper(): at for name, at in self.at.items()}
        protocols = {
            "PLAINTEXT": "PLAINTEXT",
            "CONTROLLER": "PLAINTEXT",
            "SASL": "SASL_SSL",
            "MTLS": "SSL",
            "TLS": "SSL",
            "OTHER": "SSL",
            "CLEAR": "SASL_PLAINTEXT",
        }
        known = " ".join(f'user_{n}="{PASSWORD}"' for n in (USER, AGENT, SERVICE))
        users = f"{_PLAIN} required {known};"
        return {
            "authorizer.class.name": _AUTHORIZER,
            "super.users": f"User:ANONYMOUS;User:{USER};User:CN=agent",
            "listeners": _urls(listeners | {"CONTROLLER": f"{HOST}:{control}"}),
            "advertised.listeners": _urls(listeners | {"OTHER": f"{HOST}:1"}),
            "listener.security.protocol.map": ",".join(
                f"{name}:{protocol}" for name, protocol in protocols.items()
            ),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(own.both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.authority.certificate),
            "listener.name.other.ssl.keystore.type": "PEM",
            "listener.name.other.ssl.keystore.location": str(other.both),
            "listener.name.mtls.ssl.client.auth": "required",
            "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            "listener.name.sasl.plain.sasl.jaas.config": users,
            "listener.name.sasl.scram-sha-512.sasl.jaas.config": f"{_SCRAM} required;",
            "listener.name.clear.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.clear.plain.sasl.jaas.config": users,
        }


def environment(kafka: KafkaSettings) -> dict[str, str]:
    """Say the settings as variables, for another process."""
    told = {name: getattr(kafka, name) for name in kafka.model_fields_set}
    return {
        f"FLEETWAKE_KAFKA_{name.upper()}": value.get_secret_value()
        if isinstance(value, SecretStr)
        else str(value)
        for name, value in told.items()
        if value is not None
    }


def _urls(listeners: dict[str, str]) -> str:
    return ",".join(f"{name}://{at}" for name, at in listeners.items())
