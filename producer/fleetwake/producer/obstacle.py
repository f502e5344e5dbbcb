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
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from aiokafka.conn import AIOKafkaConnection, collect_hosts
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from fleetwake.producer.security import CredentialsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwake.producer.settings import KafkaSettings

__all__ = ["Obstacle", "find_obstacle", "in_words", "last_obstacle"]

_Hosts: TypeAlias = list[tuple[str, int]]

_PATIENCE_S: Final = 5.0
_CLOSE_S: Final = 0.2
_ASK_AGAIN_S: Final = 30.0
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

    No advice: nothing answers there. `stays`: waiting does not mend it, a cluster that
    is about to start does not look like that.
    """

    problem: str
    advice: str = ""
    stays: bool = False

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
        found.stays,
    )


def in_words(error: BaseException) -> str:
    """Say what a client's error means: of a right that is missing, which it is."""
    names = ", ".join(map(str, error.args))
    if isinstance(error, TopicAuthorizationFailedError):
        missing = f"topic {names}"
    elif isinstance(error, GroupAuthorizationFailedError):
        missing = f"group {names}"
    elif isinstance(error, ClusterAuthorizationFailedError):
        # Since Kafka 3.0 that is what an idempotent producer needs.
        missing = "any topic that we write"
    else:
        return repr(error)
    return f"our user has no right to {missing} (docs/configuration.md, Rights)"


class _Found(NamedTuple):
    settings: KafkaSettings
    at: float
    obstacle: Obstacle | None


_last: tuple[_Found, ...] = ()


async def last_obstacle(settings: KafkaSettings) -> Obstacle | None:
    """
    Return what `find_obstacle` finds, or found in the last 30 s. From any thread.

    For whoever tries again for ever: a fleet of producers whose brokers are away must
    not ask them twice as often.
    """
    global _last  # noqa: PLW0603  # replaced as a whole: no lock is needed
    now = time.monotonic()
    fresh = [one for one in _last if now - one.at < _ASK_AGAIN_S]
    known = next((one for one in fresh if one.settings == settings), None)
    if known is None:
        known = _Found(settings, now, await find_obstacle(settings))
        _last = (known, *fresh)
    return known.obstacle


async def _ask(hosts: _Hosts, options: dict[str, Any]) -> list[_Hosts | BaseException]:
    """Ask each for the brokers' addresses; or why it does not answer."""
    asked = (_brokers(host, port, options) for host, port in hosts)
    return await asyncio.gather(*asked, return_exceptions=True)


async def _brokers(host: str, port: int, options: dict[str, Any]) -> _Hosts:
    connection = _Connection(host, port, **options)
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await connection.connect()
            answer: Any = await connection.send(MetadataRequest([]))
            return [(one[1], one[2]) for one in answer.brokers][:_ASKED]
    finally:
        await connection.hang_up()


class _Connection(AIOKafkaConnection):  # type: ignore[misc]  # untyped
    """
    A connection that can be waited for where it was refused, too.

    aiokafka closes one that SASL or the broker's version refuses, but tells nobody of
    it: with TLS that takes until the broker has answered, and the event loop may end
    before.
    """

    _transport: asyncio.WriteTransport | None = None

    def close(self, reason: Any = None, exc: Any = None) -> Any:  # noqa: ANN401  # untyped
        if self._writer is not None:
            self._transport = self._writer.transport
        return super().close(reason, exc)

    async def hang_up(self) -> None:
        """Close the socket, at once if the other side does not let it go."""
        closed = self.close()
        if self._transport is not None:
            await asyncio.wait({closed}, timeout=_CLOSE_S)
            self._transport.abort()
            await asyncio.sleep(0)


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
    if isinstance(cause, (socket.gaierror, UnicodeError, OverflowError)):
        return Obstacle(f"nobody knows where {at} is")
    return _other_protocol(at, cause, protocol)


def _certificate(at: str, error: ssl.SSLCertVerificationError) -> Obstacle:
    if error.verify_code in {_OTHER_HOST, _OTHER_ADDRESS}:
        return Obstacle(
            f"the certificate of {at} is for another host",
            "use a name that is in it, or, if the network is trusted, "
            f"{_NAME}SSL_CHECK_HOSTNAME=false",
            stays=True,
        )
    if error.verify_code in {_EXPIRED, _NOT_YET_VALID}:
        why = "see the clocks of both machines, or renew it"
        return Obstacle(f"the certificate of {at} is not valid today", why, stays=True)
    return Obstacle(
        f"the certificate of {at} is of no known CA ({error.verify_message})",
        f"{_NAME}SSL_CAFILE takes a file with the certificate of its CA",
        stays=True,
    )


def _alert(at: str, error: ssl.SSLError) -> Obstacle:
    told = (error.reason or "").lower().replace("_", " ")
    return Obstacle(
        f"{at} does not take our certificate, or wants one ({told})",
        f"see {_NAME}SSL_CERTFILE and _KEYFILE",
        stays=True,
    )


def _sasl(at: str, error: Exception) -> Obstacle:
    if isinstance(error, UnsupportedSaslMechanismError):
        problem = f"{at} does not take this SASL mechanism"
        return Obstacle(problem, f"see {_NAME}SASL_MECHANISM", stays=True)
    return Obstacle(
        f"{at} refuses user or password",
        f"see {_NAME}SASL_USERNAME and _PASSWORD; with SCRAM, that the user has one of "
        f"{_NAME}SASL_MECHANISM",
        stays=True,
    )


def _other_protocol(at: str, error: BaseException, protocol: str) -> Obstacle:
    """Judge by how the connection ended: nobody says that it expects another one."""
    hung_up = (ssl.SSLError, ConnectionError)
    refused = isinstance(error, ConnectionRefusedError)
    if isinstance(error, OSError) and (refused or not isinstance(error, hung_up)):
        told = os.strerror(error.errno) if error.errno else type(error).__name__
        return Obstacle(f"no Kafka answers at {at} ({told})")
    in_tls = isinstance(error, asyncio.IncompleteReadError) and (
        (error.expected or 0) >> 24 == _TLS_ALERT
    )
    without_sasl = isinstance(error, IllegalSaslStateError)
    if without_sasl:
        sign = "wants no user and password"
    elif in_tls:
        sign = "answers in TLS"
    elif isinstance(error, hung_up) and protocol.endswith("SSL"):
        sign = "does not answer in TLS"
    elif protocol.startswith("SASL"):
        sign = "hangs up"
    else:
        sign = "hangs up, and may want user and password"
    advice = f"see {_NAME}SECURITY_PROTOCOL, which is {protocol}"
    # What stands before a broker that is not there yet hangs up as well.
    return Obstacle(f"{at} {sign}", advice, stays=in_tls or without_sasl)
