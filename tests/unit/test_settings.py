"""Where settings come from, and what reaches the Kafka client."""

from __future__ import annotations

import ssl
import subprocess
import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.certificates import Authority

from fleetwake.producer.security import CredentialsError
from fleetwake.producer.settings import KafkaSettings
from fleetwake.schemas.errors import ConfigurationError
from fleetwake.schemas.topics import EVENTS


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


@pytest.mark.parametrize(
    "servers",
    [
        "",
        "a:1,",
        "a:b",
        "a:b:c",
        "a:99999",
        "a b:1",
        "SASL_SSL://a:1",
        "//user:hidden@a:1",
    ],
)
def test_servers_that_are_no_list_of_hosts_are_refused(servers: str) -> None:
    """At start, by name; what stands there may hold a password."""
    with pytest.raises(ValidationError, match=r"(?i)bootstrap_servers") as caught:
        KafkaSettings(bootstrap_servers=servers)

    assert "is no list of host:port" in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "servers",
    ["a", "a:1", "a:1, b-2.c:2", "127.0.0.1:1", "[::1]:1", "[fe80::1%eth0]:1", "::1"],
)
def test_servers_are_taken_as_clients_take_them(servers: str) -> None:
    """Names and addresses, with a port or without."""
    assert servers == KafkaSettings(bootstrap_servers=servers).bootstrap_servers


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
    with pytest.raises(CredentialsError, match="SSL_KEYFILE"):
        settings.model_copy(update={"ssl_keyfile": certificate}).client_options()


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({"sasl_username": "u"}, "SASL_USERNAME needs .*SECURITY_PROTOCOL"),
        ({"ssl_cafile": "ca"}, "SSL_CAFILE needs .*SECURITY_PROTOCOL"),
        ({"security_protocol": "SASL_SSL"}, "needs .*SASL_USERNAME"),
        (
            {"security_protocol": "SASL_SSL", "sasl_username": "u"},
            "needs .*SASL_PASSWORD or .*SASL_PASSWORD_FILE",
        ),
        (
            {
                "security_protocol": "SASL_SSL",
                "sasl_username": "u",
                "sasl_password": "p",
                "sasl_password_file": "f",
            },
            "SASL_PASSWORD and .*SASL_PASSWORD_FILE are both set",
        ),
        (
            {"security_protocol": "SSL", "sasl_mechanism": "SCRAM-SHA-512"},
            "SASL_MECHANISM is of no use with SSL",
        ),
        (
            {
                "security_protocol": "SASL_PLAINTEXT",
                "sasl_username": "u",
                "sasl_password": "p",
                "ssl_check_hostname": False,
            },
            "SSL_CHECK_HOSTNAME is of no use with SASL_PLAINTEXT",
        ),
        (
            {"security_protocol": "SSL", "ssl_keyfile": "key"},
            "SSL_KEYFILE needs .*SSL_CERTFILE",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    told: dict[str, Any], named: str
) -> None:
    """By name, before anybody connects: a password that is not used is a mistake."""
    with pytest.raises(ConfigurationError, match=named):
        KafkaSettings(**told)


def test_an_explicit_plaintext_puts_credentials_out_of_use() -> None:
    """A local test, or the demonstration, in an environment of production."""
    settings = KafkaSettings(
        security_protocol="PLAINTEXT", sasl_username="u", ssl_cafile=Path("no-file")
    )
    assert {
        "bootstrap_servers",
        "security_protocol",
    } == settings.client_options().keys()


def test_a_password_is_read_from_its_file_each_time(tmp_path: Path) -> None:
    """What rotates it need not start us again; the line's end is not a part of it."""
    file = tmp_path / "password"
    settings = KafkaSettings(
        security_protocol="SASL_PLAINTEXT", sasl_username="u", sasl_password_file=file
    )
    found = []
    for text in ("open sesame", "closed sesame \n", "line\r\n"):
        file.write_bytes(text.encode())
        found.append(settings.client_options()["sasl_plain_password"])
    file.unlink()

    assert ["open sesame", "closed sesame ", "line"] == found
    with pytest.raises(CredentialsError, match=r"SASL_PASSWORD_FILE: .*cannot be read"):
        settings.client_options()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ssl_key_password": "other words"}, "cannot be opened with .*KEY_PASSWORD"),
        # Without care OpenSSL asks for it on the terminal, and waits.
        ({"ssl_key_password": None}, "cannot be opened with .*KEY_PASSWORD"),
        ({"ssl_certfile": "other.pem"}, "SSL_KEYFILE: .* is not the key of"),
        ({"ssl_certfile": "none.pem"}, "SSL_CERTFILE: .*cannot be read"),
        ({"ssl_keyfile": "agent.pem"}, "SSL_KEYFILE: .* are not a key and its"),
        ({"ssl_cafile": "agent-key.pem"}, "SSL_CAFILE: .* holds no certificate"),
        ({"ssl_cafile": "."}, "SSL_CAFILE: .* cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    changes: dict[str, Any],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With its setting; nothing of what it holds, and no passphrase, is told."""
    authority = Authority(tmp_path)
    agent = authority.issue("agent", passphrase="open sesame")
    authority.issue("other")
    right: dict[str, Any] = {
        "security_protocol": "SSL",
        "ssl_cafile": authority.certificate,
        "ssl_certfile": agent.certificate,
        "ssl_keyfile": agent.key,
        "ssl_key_password": "open sesame",
    }
    assert KafkaSettings(**right).client_options()["ssl_context"]
    monkeypatch.chdir(tmp_path)
    wrong = KafkaSettings(**right | changes)

    with pytest.raises(CredentialsError, match=named) as caught:
        wrong.client_options()

    told = "".join(traceback.format_exception(caught.value))
    assert [one for one in ("sesame", "other words", "PRIVATE") if one in told] == []


def test_a_ca_of_ones_own_need_not_be_as_strict_as_a_public_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Python 3.13 would have it, and no other client of Kafka."""
    strict = ssl.create_default_context()
    strict.verify_flags |= ssl.VERIFY_X509_STRICT

    def create(cafile: Path) -> ssl.SSLContext:
        assert cafile
        return strict

    monkeypatch.setattr(ssl, "create_default_context", create)
    ca = Authority(tmp_path).certificate
    settings = KafkaSettings(
        security_protocol="SSL", ssl_cafile=ca, ssl_check_hostname=False
    )
    context = settings.client_options()["ssl_context"]

    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert (False, ssl.CERT_REQUIRED) == (context.check_hostname, context.verify_mode)


def test_one_prefix_names_topics_and_groups() -> None:
    """Two deployments on one cluster share neither."""
    settings = KafkaSettings(topic_prefix="blue.")

    assert ("blue.events", "blue.archive") == (
        settings.topic(EVENTS),
        settings.group("archive"),
    )
