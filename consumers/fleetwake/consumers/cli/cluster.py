"""Which Kafka a command talks to, and whether it is there."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from fleetwake.consumers.broker.lock import running
from fleetwake.consumers.broker.settings import BrokerSettings
from fleetwake.consumers.cli.exits import UnreachableError
from fleetwake.consumers.home import home
from fleetwake.consumers.supervisor import read_state
from fleetwake.producer.settings import KafkaSettings
from fleetwake.schemas.errors import FleetwakeError, RetriableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwake.consumers.runtime.kafka_admin import TopicState
    from fleetwake.producer.obstacle import Obstacle
    from fleetwake.schemas.topics import Topic

__all__ = ["checked", "is_configured", "kafka_settings", "partitions_of", "reach"]

_AGAIN_S: Final = 0.5


def is_configured(kafka: KafkaSettings) -> bool:
    """Whether somebody said where Kafka is, so that no broker is to be started."""
    return "bootstrap_servers" in kafka.model_fields_set


def kafka_settings() -> KafkaSettings:
    """
    Return the settings for the Kafka of this home.

    As configured; else that of the running `fleetwake up`; else the embedded broker's.
    """
    kafka = checked(KafkaSettings())
    if is_configured(kafka):
        return kafka
    return kafka.model_copy(update={"bootstrap_servers": _embedded()})


def checked(kafka: KafkaSettings) -> KafkaSettings:
    """
    Return the settings if TLS and SASL can be used as they say.

    Raises:
        CredentialsError: a file of them cannot be used.
    """
    kafka.client_options()
    return kafka


def _embedded() -> str:
    state = read_state(home())
    if state is not None and state.bootstrap_servers is not None:
        return state.bootstrap_servers
    broker = BrokerSettings()
    present = running(broker.data_dir)
    port = (present and present.port) or broker.port
    return f"127.0.0.1:{port}"


async def reach(
    kafka: KafkaSettings, timeout_s: float = 10.0, *, patient: bool = False
) -> list[TopicState]:
    """
    Return the topics; a patient caller has it tried again until `timeout_s`.

    Not where waiting does not help, as for a wrong password.

    Raises:
        UnreachableError: the broker does not answer.
    """
    from fleetwake.consumers.runtime.kafka_admin import describe_topics
    from fleetwake.producer.obstacle import find_obstacle

    give_up = time.monotonic() + timeout_s
    while True:
        try:
            async with asyncio.timeout(max(_AGAIN_S, give_up - time.monotonic())):
                return await describe_topics(kafka)
        except (RetriableError, TimeoutError) as error:
            found = await find_obstacle(kafka)
            is_over = not patient or time.monotonic() + _AGAIN_S > give_up
            if is_over or (found is not None and found.stays):
                raise _unreachable(kafka, found) from error
        await asyncio.sleep(_AGAIN_S)


def _unreachable(kafka: KafkaSettings, found: Obstacle | None) -> UnreachableError:
    problem = found.problem if found else f"{kafka.bootstrap_servers} is too slow"
    advice = found.advice if found else "try again"
    start = "start one with `fleetwake up`, or say where it is (--bootstrap-servers)"
    return UnreachableError(problem, advice or start)


def partitions_of(
    kafka: KafkaSettings, topic: Topic, topics: Sequence[TopicState]
) -> int:
    """
    Return the number of partitions of a topic.

    Raises:
        FleetwakeError: it does not exist.
    """
    name = kafka.topic(topic)
    for state in topics:
        if state.name == name and state.partitions:
            return state.partitions
    raise FleetwakeError(
        f"topic {name!r} does not exist: create it with `fleetwake topics --create`"
    )
