"""Rights (ACLs) on a Kafka, for tests: given as docs/configuration.md has them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import DescribeAclsRequest_v1
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int8, Int16, Int32, Schema, String

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetwake.producer.settings import KafkaSettings

_DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "configuration.md"
_ROW: Final = re.compile(
    r"^\| ([^|]+) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", re.MULTILINE
)
_NAME: Final = re.compile("`([a-z-]+)`")

# Codes of Kafka's protocol: resources, patterns, operations.
_TOPIC, _GROUP = 2, 3
_LITERAL, _PREFIXED = 3, 4
_OPERATIONS: Final = {
    "Read": 3,
    "Write": 4,
    "Create": 5,
    "Describe": 8,
}
_ALLOW: Final = 3


class Rule(NamedTuple):
    """One right; a name that ends with `*` is a prefix."""

    resource: int
    name: str
    operation: str

    @classmethod
    def topic(cls, name: str, operation: str) -> Rule:
        """What may be done with a topic."""
        return cls(_TOPIC, name, operation)

    @classmethod
    def group(cls, name: str, operation: str = "Read") -> Rule:
        """What may be done with a group; Read is to be in it."""
        return cls(_GROUP, name, operation)


def documented(who: str, kafka: KafkaSettings) -> list[Rule]:
    """Return what the table of docs/configuration.md gives to somebody."""
    text = _DOCUMENT.read_text()
    rows = {found[1].strip("` "): found for found in _ROW.finditer(text)}
    _, reads, writes, groups = rows[who].groups()
    prefix = kafka.topic_prefix
    rules = [Rule.topic(prefix + one, "Read") for one in _NAME.findall(reads)]
    rules += [Rule.topic(prefix + one, "Write") for one in _NAME.findall(writes)]
    if "producer" in writes.split():
        rules += documented("producer", kafka)
    if "all" in groups.split():
        return [*rules, Rule.group(prefix + "*", "Describe")]
    return rules + [Rule.group(prefix + one) for one in _NAME.findall(groups)]


def creating(kafka: KafkaSettings) -> list[Rule]:
    """What `fleetwake topics --create` needs beside."""
    every = kafka.topic_prefix + "*"
    return [Rule.topic(every, "Create"), Rule.topic(every, "Describe")]


async def allow(by: KafkaSettings, user: str, rules: Iterable[Rule]) -> None:
    """Give a user rights, as whoever may do that; the broker has them then."""
    given = {*rules}
    admin: Any = AIOKafkaAdminClient(**by.client_options())
    await admin.start()
    try:
        answer = await admin._send_to_controller(_CreateAcls(user, [*given]))
        async with asyncio.timeout(10):
            while not given <= await _rules(admin, user):
                await asyncio.sleep(0.02)
    finally:
        await admin.close()
    problems = [text for code, text in answer.results if code]

    assert [] == problems


async def _rules(admin: Any, user: str) -> set[Rule]:
    answer = await admin._send_request(_DescribeAcls(user))
    names = {code: name for name, code in _OPERATIONS.items()}
    return {
        Rule(kind, name + "*" * (pattern == _PREFIXED), names[operation])
        for kind, name, pattern, rows in answer.resources
        for _, _, operation, _ in rows
    }


class _DescribeAcls(Request[DescribeAclsRequest_v1]):
    API_KEY = 29

    def __init__(self, user: str) -> None:
        self._user = user

    def build(
        self, request_struct_class: type[DescribeAclsRequest_v1]
    ) -> DescribeAclsRequest_v1:
        every = 1
        return request_struct_class(
            every, None, every, f"User:{self._user}", None, every, every
        )


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
