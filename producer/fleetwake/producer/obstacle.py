# pyright: basic
"""
Why no client gets through to a Kafka.

aiokafka logs that, and raises "Unable to bootstrap" or tries again for ever.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    IllegalSaslStateError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from fleetwake.producer.security import CredentialsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwake.producer.settings import KafkaSettings

__all__ = ["Obstacle", "find_obstacle"]

_Hosts: TypeAlias = list[tuple[str, int]]

_PATIENCE_S: Final = 5.0
_CLOSE_S: Final = 0.2
# Of a large cluster: what is wrong with one is wrong with all.
_ASKED: Final = 3

_NAME: Final = "FLEETWAKE_KAFKA_"
# Verification errors of OpenSSL (x509_vfy.h).
_NOT_YET_VALID, _EXPIRED, _OTHER_HOST, _OTHER_ADDRESS = 9, 10, 62, 64
# RFC 8446, section 5.1: where Kafka has the length of its answer.
_TLS_ALERT: Final = 21


class Obstacle(NamedTuple):
    """
    What is wrong, and what to do about it. Holds no secret.

    No advice: nothing answers there.
    """

    problem: str
    advice: str = ""

    def __str__(self) -> str:
        """Both, in one line."""
        return f"{self.problem}: {self.advice}" if self.advice else self.problem


async def find_obstacle(settings: KafkaSettings) -> Obstacle | None:
    """
    Look for what keeps clients from a cluster, within 10 s; None: nothing does.

    Asks its bootstrap servers, and then its brokers at the addresses that it gives
    for them: those may be others. Raises nothing.
    """
    try:
        options = settings.client_options()
        servers = collect_hosts(options.pop("bootstrap_servers"))
    except CredentialsError as error:
        return Obstacle(str(error), "files are read again for each new client")
    except ValueError:
        problem = f"{settings.bootstrap_servers!r} is no list of host:port"
        return Obstacle(problem, f"see {_NAME}BOOTSTRAP_SERVERS")
    hosts = [(host, port) for host, port, _ in servers][:_ASKED]
    answers = await _ask(hosts, options)
    brokers = next((one for one in answers if isinstance(one, list)), None)
    if brokers is None:
        return _first(hosts, answers, settings)
    answers = await _ask(brokers, options)
    if not brokers or any(isinstance(one, list) for one in answers):
        return None
    found = _first(brokers, answers, settings)
    return Obstacle(
        f"the cluster answers, but of its brokers: {found.problem}",
        found.advice or "see their advertised.listeners",
    )


async def _ask(hosts: _Hosts, options: dict[str, Any]) -> list[_Hosts | BaseException]:
    """Ask each for the brokers' addresses; or why it does not answer."""
    asked = (_brokers(host, port, options) for host, port in hosts)
    return await asyncio.gather(*asked, return_exceptions=True)


async def _brokers(host: str, port: int, options: dict[str, Any]) -> _Hosts:
    async with asyncio.timeout(_PATIENCE_S):
        connection = await create_conn(host, port, **options)
        try:
            answer: Any = await connection.send(MetadataRequest([]))
            return [(one[1], one[2]) for one in answer.brokers][:_ASKED]
        finally:
            if (closed := connection.close()) is not None:
                await asyncio.wait({closed}, timeout=_CLOSE_S)


def _first(
    hosts: _Hosts,
    answers: Sequence[_Hosts | BaseException],
    settings: KafkaSettings,
) -> Obstacle:
    """Return the most telling one: that one of several does not answer is the least."""
    found = [
        _obstacle(f"{host}:{port}", answer, settings.security_protocol)
        for (host, port), answer in zip(hosts, answers, strict=True)
        if isinstance(answer, BaseException)
    ]
    return min(found, key=lambda one: not one.advice)


def _obstacle(at: str, error: BaseException, protocol: str) -> Obstacle:
    if isinstance(error, TimeoutError):
        return Obstacle(f"no Kafka answers at {at} within {_PATIENCE_S:.0f} s")
    # Of a connection that is closed, aiokafka has the reason as the cause.
    cause = error.__cause__ or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _certificate(at, cause)
    if isinstance(cause, ssl.SSLError) and "ALERT" in (cause.reason or ""):
        return _alert(at, cause)
    if isinstance(cause, (SaslAuthenticationFailed, UnsupportedSaslMechanismError)):
        return _sasl(at, cause)
    if isinstance(cause, socket.gaierror):
        return Obstacle(f"nobody knows where {at} is")
    return _other_protocol(at, cause, protocol)


def _certificate(at: str, error: ssl.SSLCertVerificationError) -> Obstacle:
    if error.verify_code in {_OTHER_HOST, _OTHER_ADDRESS}:
        return Obstacle(
            f"the certificate of {at} is for another host",
            "use a name that is in it, or, if the network is trusted, "
            f"{_NAME}SSL_CHECK_HOSTNAME=false",
        )
    if error.verify_code in {_EXPIRED, _NOT_YET_VALID}:
        why = "see the clocks of both machines, or renew it"
        return Obstacle(f"the certificate of {at} is not valid today", why)
    return Obstacle(
        f"the certificate of {at} is of no known CA ({error.verify_message})",
        f"{_NAME}SSL_CAFILE takes a file with the certificate of its CA",
    )


def _alert(at: str, error: ssl.SSLError) -> Obstacle:
    told = (error.reason or "").lower().replace("_", " ")
    return Obstacle(
        f"{at} does not take our certificate, or wants one ({told})",
        f"see {_NAME}SSL_CERTFILE and _KEYFILE",
    )


def _sasl(at: str, error: Exception) -> Obstacle:
    if isinstance(error, UnsupportedSaslMechanismError):
        problem = f"{at} does not take this SASL mechanism"
        return Obstacle(problem, f"see {_NAME}SASL_MECHANISM")
    return Obstacle(
        f"{at} refuses user or password",
        f"see {_NAME}SASL_USERNAME and _PASSWORD; with SCRAM, that the user has one of "
        f"{_NAME}SASL_MECHANISM",
    )


def _other_protocol(at: str, error: BaseException, protocol: str) -> Obstacle:
    """Judge by how the connection ended: nobody says that it expects another one."""
    hung_up = (ssl.SSLError, ConnectionError)
    refused = isinstance(error, ConnectionRefusedError)
    if isinstance(error, OSError) and (refused or not isinstance(error, hung_up)):
        told = os.strerror(error.errno) if error.errno else type(error).__name__
        return Obstacle(f"no Kafka answers at {at} ({told})")
    if isinstance(error, IllegalSaslStateError):
        sign = "wants no user and password"
    elif isinstance(error, asyncio.IncompleteReadError) and (
        (error.expected or 0) >> 24 == _TLS_ALERT
    ):
        sign = "answers in TLS"
    elif isinstance(error, hung_up) and protocol.endswith("SSL"):
        sign = "does not answer in TLS"
    elif protocol.startswith("SASL"):
        sign = "hangs up"
    else:
        sign = "hangs up, and may want user and password"
    advice = f"see {_NAME}SECURITY_PROTOCOL, which is {protocol}"
    return Obstacle(f"{at} {sign}", advice)
