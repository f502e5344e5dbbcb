"""TLS and SASL, as the settings have them, for a Kafka client."""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING, Any

from fleetwake.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleetwake.producer.settings import KafkaSettings

__all__ = ["CredentialsError", "contradictions", "security_options"]

_SASL = ("sasl_mechanism", "sasl_username", "sasl_password", "sasl_password_file")
_TLS = (
    "ssl_cafile",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_key_password",
    "ssl_check_hostname",
)


class CredentialsError(ConfigurationError, OSError):
    """
    Raised when a certificate, a key or a password cannot be used. Names the setting.

    At start that is a wrong setting. Files are read again for each new client, and
    then it is one more reason why Kafka cannot be reached now.
    """


def contradictions(settings: KafkaSettings) -> Iterator[str]:
    """Say which settings cannot be meant together. Reads no file."""
    protocol, told = settings.security_protocol, settings.model_fields_set
    if protocol == "PLAINTEXT":
        # An explicit PLAINTEXT puts the others out of use, as for a local test.
        forgotten = [one for one in (*_SASL, *_TLS) if one in told]
        if forgotten and "security_protocol" not in told:
            yield f"{_variable(forgotten[0])} needs {_variable('security_protocol')}"
        return
    has_sasl, has_tls = protocol.startswith("SASL"), protocol.endswith("SSL")
    unused = (() if has_sasl else _SASL) + (() if has_tls else _TLS)
    for name in unused:
        if name in told and getattr(settings, name) is not None:
            yield f"{_variable(name)} is of no use with {protocol}"
    if has_sasl:
        yield from _sasl_contradictions(settings)
    if settings.ssl_certfile is None:
        for name in ("ssl_keyfile", "ssl_key_password"):
            if getattr(settings, name) is not None:
                yield f"{_variable(name)} needs {_variable('ssl_certfile')}"


def _sasl_contradictions(settings: KafkaSettings) -> Iterator[str]:
    if settings.sasl_username is None:
        yield f"{settings.security_protocol} needs {_variable('sasl_username')}"
    ways = (settings.sasl_password, settings.sasl_password_file)
    if ways == (None, None):
        yield (
            f"{settings.security_protocol} needs {_variable('sasl_password')} or "
            f"{_variable('sasl_password_file')}"
        )
    elif None not in ways:
        yield (
            f"{_variable('sasl_password')} and {_variable('sasl_password_file')} are "
            "both set"
        )


def security_options(settings: KafkaSettings) -> dict[str, Any]:
    """
    Options of an aiokafka client, with what the files hold now.

    Raises:
        CredentialsError: a file cannot be read, or is not what it should be.
    """
    options: dict[str, Any] = {"security_protocol": settings.security_protocol}
    if settings.security_protocol.startswith("SASL"):
        # The same filter again is not added.
        logging.getLogger("aiokafka.conn").addFilter(_no_credentials)
        options |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": _password(settings),
        }
    if settings.security_protocol.endswith("SSL"):
        options["ssl_context"] = _context(settings)
    return options


def _password(settings: KafkaSettings) -> str:
    if settings.sasl_password is not None:
        return settings.sasl_password.get_secret_value()
    try:
        text = _read("sasl_password_file", settings.sasl_password_file).decode()
    except UnicodeDecodeError:
        raise CredentialsError(
            f"{_variable('sasl_password_file')}: {settings.sasl_password_file} holds "
            "no text"
        ) from None
    # Editors end a file with one.
    return text.removesuffix("\n").removesuffix("\r")


def _context(settings: KafkaSettings) -> ssl.SSLContext:
    cafile = settings.ssl_cafile
    try:
        if cafile is not None:
            _read("ssl_cafile", cafile)
        context = ssl.create_default_context(cafile=cafile)
    except ssl.SSLError:
        raise CredentialsError(
            f"{_variable('ssl_cafile')}: {cafile} holds no certificate in PEM"
        ) from None
    if cafile is not None:
        # Since Python 3.13, and in no other client of Kafka: the CAs of many clusters
        # are without the extensions that RFC 5280 wants.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.check_hostname = settings.ssl_check_hostname
    if settings.ssl_certfile is not None:
        _load_certificate(context, settings)
    return context


def _load_certificate(context: ssl.SSLContext, settings: KafkaSettings) -> None:
    secret, asked = settings.ssl_key_password, list[bool]()
    key = settings.ssl_keyfile or settings.ssl_certfile
    name = "ssl_keyfile" if settings.ssl_keyfile else "ssl_certfile"
    _read("ssl_certfile", settings.ssl_certfile)
    _read(name, key)

    def password() -> str:
        # Without a function it is OpenSSL that asks, on the terminal, and waits.
        asked.append(True)
        return secret.get_secret_value() if secret else ""

    try:
        context.load_cert_chain(str(settings.ssl_certfile), str(key), password)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or "not usable"
        if reason == "KEY_VALUES_MISMATCH":
            problem = f"{key} is not the key of {settings.ssl_certfile}"
        elif asked:
            problem = f"{key} cannot be opened with {_variable('ssl_key_password')}"
        else:
            problem = f"{key} and {settings.ssl_certfile} are not a key and its "
            problem += f"certificate in PEM ({reason})"
        # Not its cause: nothing of a key is to be in an error.
        raise CredentialsError(f"{_variable(name)}: {problem}") from None


def _read(name: str, path: Path | None) -> bytes:
    try:
        return path.read_bytes() if path is not None else b""
    except OSError as error:
        raise CredentialsError(
            f"{_variable(name)}: {path} cannot be read ({error.strerror})"
        ) from error


def _variable(name: str) -> str:
    return f"FLEETWAKE_KAFKA_{name.upper()}"


class _NoCredentials(logging.Filter):
    """Keeps passwords out of the log: aiokafka logs each request at DEBUG."""

    def filter(self, record: logging.LogRecord) -> bool:
        arguments = record.args if isinstance(record.args, tuple) else ()
        return not any("SaslAuth" in type(one).__name__ for one in arguments)


_no_credentials = _NoCredentials()
