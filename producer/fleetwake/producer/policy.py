"""
Which content of an event may leave the process, by deployment and by tool.

| policy | what stays of the content |
| --- | --- |
| full | all of it, redacted |
| metadata | lengths, digests and the attributes named `fleetwake.*` |
| hash | the same, and in place of the payload its SHA-256 |
| none | the attributes named `fleetwake.*` |

Content is `payload`, both previews, `error_message`, `reason` and `attributes`. Gaps
and close marks of the producer itself pass as they are.
"""

from __future__ import annotations

import hmac
import json
from fnmatch import fnmatchcase
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from fleetwake.schemas.text import well_formed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetwake.schemas.event import AuditEvent

__all__ = [
    "Policies",
    "Policy",
    "hashed",
    "hashed_bytes",
    "without_content",
    "without_digests",
]

Policy: TypeAlias = Literal["full", "metadata", "hash", "none"]

_OWN: Final = "fleetwake."
_OWN_EVENTS: Final = frozenset({"gap", "producer.close"})
_NO_CONTENT: Final[dict[str, Any]] = dict.fromkeys(
    ("payload", "arguments_preview", "result_preview", "error_message", "reason")
)
_NO_DIGESTS: Final[dict[str, Any]] = dict.fromkeys(
    (
        *("arguments_digest", "outcome_digest", "error_class_digest", "text_digest"),
        *("digest_basis", "fingerprint_version", "text_repeats"),
        *("arguments_chars", "result_chars", "payload_chars"),
    )
)
_CACHED_TOOLS: Final = 4_096


class Policies:
    """
    The policy of each event.

    Args:
        default: where no tool says otherwise.
        tools: by the tool's name or a glob of it; the first that matches counts, in
            the order given, but a whole name before all globs.
        key: for `hash`; empty: none.
    """

    def __init__(
        self, default: Policy, tools: Mapping[str, Policy], key: bytes = b""
    ) -> None:
        self._default: Policy = default
        self._tools = dict(tools)
        self._key = key
        self._of_tool = lru_cache(maxsize=_CACHED_TOOLS)(self._find)

    def of(self, event: AuditEvent) -> Policy:
        """Return the policy of an event."""
        if event.event_type in _OWN_EVENTS:
            return "full"
        if not self._tools or event.tool_name is None:
            return self._default
        return self._of_tool(event.tool_name)

    def apply(self, policy: Policy, event: AuditEvent) -> AuditEvent:
        """Return what of an event may leave, but for what redaction takes out."""
        if policy == "full":
            return event
        bare = without_content(event)
        if policy == "hash" and event.payload is not None:
            return bare._replace(payload=hashed(event.payload, self._key))
        return without_digests(bare) if policy == "none" else bare

    def _find(self, tool: str) -> Policy:
        if tool in self._tools:
            return self._tools[tool]
        for glob, policy in self._tools.items():
            if fnmatchcase(tool, glob):
                return policy
        return self._default


def without_content(event: AuditEvent) -> AuditEvent:
    """Return an event without its content group; lengths and digests stay."""
    chars = event.payload_chars
    if chars is None and event.payload is not None:
        chars = len(event.payload)
    own = {
        name: text for name, text in event.attributes.items() if name.startswith(_OWN)
    }
    return event._replace(**_NO_CONTENT, payload_chars=chars, attributes=own)


def without_digests(event: AuditEvent) -> AuditEvent:
    """Return an event without anything that was made of its content."""
    return event._replace(**_NO_DIGESTS)


def hashed(payload: str, key: bytes = b"") -> str:
    """
    Return what stands in place of a payload under the policy `hash`.

    `fleetwake_sha256` is the SHA-256 of the payload's UTF-8, whole and before any
    redaction (a lone surrogate as U+FFFD); with a key it is `fleetwake_hmac_sha256`,
    the HMAC. `fleetwake_chars` is its length in code points.
    """
    data = well_formed(payload).encode()
    return json.dumps({**_digest(data, key), "fleetwake_chars": len(payload)})


def hashed_bytes(data: bytes, key: bytes = b"") -> bytes:
    """Return the same for a dead letter, with its length as `fleetwake_bytes`."""
    return json.dumps({**_digest(data, key), "fleetwake_bytes": len(data)}).encode()


def _digest(data: bytes, key: bytes) -> dict[str, object]:
    if key:
        return {"fleetwake_hmac_sha256": hmac.new(key, data, sha256).hexdigest()}
    return {"fleetwake_sha256": sha256(data).hexdigest()}
