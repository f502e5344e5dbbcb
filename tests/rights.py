"""Rights (ACLs) on a Kafka, for tests: given as docs/configuration.md has them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int8, Int16, Int32, Schema, String

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetwake.producer.settings import KafkaSettings

_DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "configuration.md"
_ROW: Final = re.compile(r"^\| ([^|]+) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", re.M)
_NAME: Final = re.compile("`([a-z-]+)`")

# Codes of Kafka's protocol: resources, patterns, operations.
_TOPIC, _GROUP = 2, 3
_LITERAL, _PREFIXED = 3, 4
_OPERATIONS: Final = {
    "Read": 3,
    "Write": 4,
    "Create": 5,
    "Describe": 8,
    "DescribeConfigs": 10,
}
_ALLOW: Final = 3


class Rule(NamedTuple):
    """One right; a name that ends with `*` is a prefix."""

    resource: int
    name: str
    operation: str


def documented(who: str, kafka: KafkaSettings) -> list[Rule]:
    """Return what the table of docs/configuration.md gives to somebody."""
    text = _DOCUMENT.read_text()
    rows = {found[1].strip("` "): found for found in _ROW.finditer(text)}
    _, reads, writes, groups = rows[who].groups()
    prefix = kafka.topic_prefix
    rules = [Rule(_TOPIC, prefix + one, "Read") for one in _NAME.findall(reads)]
    rules += [Rule(_TOPIC, prefix + one, "Write") for one in _NAME.findall(writes)]
    if "all" in reads.split():
        rules += [Rule(_TOPIC, prefix + "*", "Read")]
    if "all" in groups.split():
        return [*rules, Rule(_GROUP, prefix + "*", "Describe")]
    return rules + [Rule(_GROUP, prefix + one, "Read") for one in _NAME.findall(groups)]


def creating(kafka: KafkaSettings) -> list[Rule]:
    """What `fleetwake topics --create` needs beside."""
    return [
        Rule(_TOPIC, kafka.topic_prefix + "*", "Create"),
        Rule(_TOPIC, kafka.topic_prefix + "*", "Describe"),
    ]


async def allow(by: KafkaSettings, user: str, rules: Iterable[Rule]) -> None:
    """Give a user rights, as whoever may do that."""
    admin: Any = AIOKafkaAdminClient(**by.client_options())
    await admin.start()
    try:
        answer = await admin._send_to_controller(_CreateAcls(user, [*rules]))
    finally:
        await admin.close()

    problems = [text for code, text in answer.results if code]

    assert [] == problems


class _CreateAclsAnswer(Response):
    API_KEY = 30
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("results", Array(("error_code", Int16), ("error_message", String("utf-8")))),
    )


class _CreateAclsStruct(RequestStruct):
    API_KEY = 30
    API_VERSION = 1
    RESPONSE_TYPE = _CreateAclsAnswer
    SCHEMA = Schema(
        (
            "creations",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                ("resource_pattern_type", Int8),
                ("principal", String("utf-8")),
                ("host", String("utf-8")),
                ("operation", Int8),
                ("permission_type", Int8),
            ),
        ),
    )


class _CreateAcls(Request[_CreateAclsStruct]):
    API_KEY = 30

    def __init__(self, user: str, rules: list[Rule]) -> None:
        self._rows = [
            (
                one.resource,
                one.name.removesuffix("*"),
                _PREFIXED if one.name.endswith("*") else _LITERAL,
                f"User:{user}",
                "*",
                _OPERATIONS[one.operation],
                _ALLOW,
            )
            for one in rules
        ]

    def build(self, request_struct_class: type[_CreateAclsStruct]) -> _CreateAclsStruct:
        return request_struct_class(self._rows)
