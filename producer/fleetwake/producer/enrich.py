"""Fills an event from its content: digests, previews, lengths and the payload."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fleetwake.producer.adapters.mapping import REPAIRED
from fleetwake.producer.content import ABSENT, plain_json, snapshot
from fleetwake.producer.unknown_tool import is_unknown_tool
from fleetwake.schemas.canonical import NO_JSON, parsed
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.fingerprint import (
    FINGERPRINT_VERSION,
    arguments_digest,
    error_class_digest,
    outcome_digest,
    preview,
    text_digest,
)
from fleetwake.schemas.repetition import text_repeats

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetwake.producer.content import Content

__all__ = ["enriched"]

_AT: Final = {name: index for index, name in enumerate(AuditEvent._fields)}
_EVENT_TYPE: Final = _AT["event_type"]
_OUTCOME: Final = _AT["outcome"]
_TOOL_NAME: Final = _AT["tool_name"]
_ERROR_KIND: Final = _AT["error_kind"]
_ERROR_MESSAGE: Final = _AT["error_message"]
_ARGUMENTS_DIGEST: Final = _AT["arguments_digest"]
_OUTCOME_DIGEST: Final = _AT["outcome_digest"]
_ERROR_CLASS_DIGEST: Final = _AT["error_class_digest"]
_TEXT_DIGEST: Final = _AT["text_digest"]
_DIGEST_BASIS: Final = _AT["digest_basis"]
_FINGERPRINT_VERSION: Final = _AT["fingerprint_version"]
_ARGUMENTS_PREVIEW: Final = _AT["arguments_preview"]
_RESULT_PREVIEW: Final = _AT["result_preview"]
_ARGUMENTS_CHARS: Final = _AT["arguments_chars"]
_RESULT_CHARS: Final = _AT["result_chars"]
_PAYLOAD_CHARS: Final = _AT["payload_chars"]
_TEXT_REPEATS: Final = _AT["text_repeats"]
_ATTRIBUTES: Final = _AT["attributes"]
_PAYLOAD: Final = _AT["payload"]
_DIGESTS: Final = (
    _ARGUMENTS_DIGEST,
    _OUTCOME_DIGEST,
    _ERROR_CLASS_DIGEST,
    _TEXT_DIGEST,
)

_FAILURES: Final = frozenset(
    {
        *("failure", "timeout", "persistence_failed"),
        *("tool.failure", "model.error", "error"),
    }
)


def enriched(event: AuditEvent, content: Content, *, key: bytes = b"") -> AuditEvent:
    """
    Return the event with what its content says, where a field of it is None.

    Digests are of the whole values, keyed with `key` (at most 64 bytes) if it is not
    empty; previews are the first 200 code points of a text, or of an object's JSON.
    The outcome is the result, or else the error; numbers of a failure that are no
    progress do not count (`fleetwake.schemas.fingerprint`). The error_kind of a failed
    call is `unknown_tool` if its error says so. Nothing is redacted here.
    """
    arguments, result, error, text, record, basis, note = snapshot(content)
    fields: list[Any] = list(event)
    if arguments is not ABSENT:
        _fill_arguments(fields, str(arguments), key)
    if result is not None:
        _fill_result(fields, str(result), key)
    if error is not None:
        _fill_error(fields, error, key)
    if text is not None:
        _fill_text(fields, text, key)
    if fields[_PAYLOAD] is None:
        said = {"arguments": arguments, "result": result, "error": error, "text": text}
        fields[_PAYLOAD] = _own_record(said) if record is ABSENT else record
    if fields[_PAYLOAD] is not None and fields[_PAYLOAD_CHARS] is None:
        fields[_PAYLOAD_CHARS] = len(fields[_PAYLOAD])
    _name_rules(fields, basis)
    if note:
        fields[_ATTRIBUTES] = _noted(event.attributes, note)
    return AuditEvent._make(fields)


def _own_record(said: Mapping[str, object]) -> str | None:
    """Return the payload where the source has no record of its own."""
    members = [
        f'"{name}":{_json(str(value))}'
        for name, value in said.items()
        if value is not ABSENT and value is not None
    ]
    return f"{{{','.join(members)}}}" if members else None


def _json(text: str) -> str:
    """Return text that is a JSON document as it is, other text as a JSON string."""
    if text.startswith(("{", "[")) and parsed(text) is not NO_JSON:
        return text
    return text if text == "null" else plain_json(text)[0]


def _fill_arguments(fields: list[Any], arguments: str, key: bytes) -> None:
    if fields[_ARGUMENTS_DIGEST] is None:
        fields[_ARGUMENTS_DIGEST] = arguments_digest(arguments, key=key)
    if fields[_ARGUMENTS_PREVIEW] is None:
        fields[_ARGUMENTS_PREVIEW] = preview(arguments)
    if fields[_ARGUMENTS_CHARS] is None:
        fields[_ARGUMENTS_CHARS] = len(arguments)


def _fill_result(fields: list[Any], result: str, key: bytes) -> None:
    if fields[_OUTCOME_DIGEST] is None:
        is_error = not _FAILURES.isdisjoint((fields[_OUTCOME], fields[_EVENT_TYPE]))
        fields[_OUTCOME_DIGEST] = outcome_digest(result, is_error=is_error, key=key)
    if fields[_RESULT_PREVIEW] is None:
        fields[_RESULT_PREVIEW] = preview(result)
    if fields[_RESULT_CHARS] is None:
        fields[_RESULT_CHARS] = len(result)


def _fill_error(fields: list[Any], error: str, key: bytes) -> None:
    if fields[_OUTCOME_DIGEST] is None:
        fields[_OUTCOME_DIGEST] = outcome_digest(error, is_error=True, key=key)
    if fields[_ERROR_MESSAGE] is None:
        fields[_ERROR_MESSAGE] = error
    if fields[_ERROR_CLASS_DIGEST] is None:
        fields[_ERROR_CLASS_DIGEST] = error_class_digest(error, key=key)
    if (
        fields[_ERROR_KIND] is None
        and fields[_EVENT_TYPE] == "tool.failure"
        and is_unknown_tool(error, fields[_TOOL_NAME])
    ):
        fields[_ERROR_KIND] = "unknown_tool"


def _fill_text(fields: list[Any], text: str, key: bytes) -> None:
    if fields[_TEXT_DIGEST] is None:
        fields[_TEXT_DIGEST] = text_digest(text, key=key)
    if fields[_TEXT_REPEATS] is None:
        fields[_TEXT_REPEATS] = text_repeats(text)


def _name_rules(fields: list[Any], basis: str) -> None:
    if all(fields[at] is None for at in _DIGESTS):
        return
    if fields[_FINGERPRINT_VERSION] is None:
        fields[_FINGERPRINT_VERSION] = FINGERPRINT_VERSION
    if fields[_DIGEST_BASIS] is None:
        fields[_DIGEST_BASIS] = basis


def _noted(attributes: Mapping[str, str], note: str) -> dict[str, str]:
    notes = attributes.get(REPAIRED, "")
    words = notes.split(",") if notes else []
    return {**attributes, REPAIRED: ",".join(dict.fromkeys([*words, note]))}
