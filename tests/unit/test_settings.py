"""Where settings come from, and what reaches the Kafka client."""

from __future__ import annotations

import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from fleetwake.producer.settings import KafkaSettings
from fleetwake.schemas.errors import ConfigurationError
from fleetwake.schemas.topics import EVENTS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No setting but the test's own; returns the settings file."""
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "FLEETWAKE_KAFKA_BOOTSTRAP_SERVERS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLEETWAKE_CONFIG", str(tmp_path / "fleetwake.toml"))
    return tmp_path / "fleetwake.toml"


def test_an_argument_goes_before_the_environment_before_the_file_before_the_default(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flag > environment > file > default."""
    found = [KafkaSettings().bootstrap_servers]
    plain.write_text('[kafka]\nbootstrap_servers = "file:1"\n[producer]\nhost = "h"\n')
    found.append(KafkaSettings().bootstrap_servers)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "common:1")
    found.append(KafkaSettings().bootstrap_servers)
    monkeypatch.setenv("FLEETWAKE_KAFKA_BOOTSTRAP_SERVERS", "own:1")
    found.append(KafkaSettings().bootstrap_servers)
    found.append(KafkaSettings(bootstrap_servers="argument:1").bootstrap_servers)

    assert ["127.0.0.1:19092", "file:1", "common:1", "own:1", "argument:1"] == found


def test_a_setting_that_does_not_exist_is_refused(plain: Path) -> None:
    """A typing error in the file is no silent default."""
    plain.write_text('[kafka]\nbootstrap_server = "file:1"\n')

    with pytest.raises(ValidationError, match="bootstrap_server"):
        KafkaSettings()


def test_a_broken_file_is_named(plain: Path) -> None:
    """The operator is told which file to mend."""
    plain.write_text("[kafka\n")

    with pytest.raises(ConfigurationError, match=r"fleetwake\.toml"):
        KafkaSettings()


def test_sasl_reaches_the_client_and_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The password is in the client's options and in no text of the settings."""
    monkeypatch.setenv("FLEETWAKE_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("FLEETWAKE_KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")
    monkeypatch.setenv("FLEETWAKE_KAFKA_SASL_USERNAME", "archive")
    monkeypatch.setenv("FLEETWAKE_KAFKA_SASL_PASSWORD", "open sesame")
    settings = KafkaSettings()
    options = settings.client_options()

    assert ("SASL_SSL", "SCRAM-SHA-512", "archive", "open sesame") == (
        options["security_protocol"],
        options["sasl_mechanism"],
        options["sasl_plain_username"],
        options["sasl_plain_password"],
    )
    assert ssl.CERT_REQUIRED == options["ssl_context"].verify_mode
    assert options["ssl_context"].check_hostname
    assert "sesame" not in f"{settings!r}{settings}{settings.model_dump_json()}"


def test_a_client_certificate_is_loaded(tmp_path: Path) -> None:
    """Mutual TLS: certificate and key reach the context; a wrong key is refused."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        f"openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=agent -days 2 "
        f"-keyout {key} -out {certificate}".split(),
        check=True,
        capture_output=True,
    )
    settings = KafkaSettings(
        security_protocol="SSL",
        ssl_cafile=certificate,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    context = settings.client_options()["ssl_context"]

    assert 1 == context.cert_store_stats()["x509_ca"]
    with pytest.raises((ssl.SSLError, OSError)):
        settings.model_copy(update={"ssl_keyfile": certificate}).client_options()


def test_one_prefix_names_topics_and_groups() -> None:
    """Two deployments on one cluster share neither."""
    settings = KafkaSettings(topic_prefix="blue.")

    assert ("blue.events", "blue.archive") == (
        settings.topic(EVENTS),
        settings.group("archive"),
    )
