"""Makes of an accepted event and its content what may leave the process."""

from __future__ import annotations

import json
import logging
import re
import time
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from fleetwake.producer.cap import (
    MARGIN_CHARS,
    MAX_TEXT_CHARS,
    capped_payload,
    capped_text,
    rough_payload,
)
from fleetwake.producer.content import snapshot
from fleetwake.producer.enrich import enriched
from fleetwake.producer.hot import HotSessions
from fleetwake.producer.policy import Policies, hashed_bytes, without_content
from fleetwake.producer.redact import Redactor
from fleetwake.producer.settings import ContentSettings
from fleetwake.schemas.errors import InvalidEventError
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.fingerprint import PREVIEW_CHARS, preview
from fleetwake.schemas.topics import MAX_RECORD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fleetwake.producer.content import Content

__all__ = ["WITHHELD", "Border"]

WITHHELD: Final = "fleetwake.withheld"
"""The attribute of an event whose content stayed here, because a hook failed on it."""

logger: Final = logging.getLogger("fleetwake.producer")

# What the end of a preview may halve.
_TOKEN: Final = re.compile(r"""[^\s"'<>]*""")
_AT: Final = {name: index for index, name in enumerate(AuditEvent._fields)}
_content = itemgetter(
    *map(
        AuditEvent._fields.index,
        ("payload", "arguments_preview", "result_preview", "error_message", "reason"),
    )
)
_SHORT_CHARS: Final = (PREVIEW_CHARS, PREVIEW_CHARS, MAX_TEXT_CHARS, MAX_TEXT_CHARS)
_PAYLOAD: Final = _AT["payload"]
_ATTRIBUTES: Final = _AT["attributes"]
_UTF8_BYTES: Final = 4
_MAX_PREVIEW_CHARS: Final = PREVIEW_CHARS + MARGIN_CHARS
_TEXT_OR_NONE: Final = frozenset({str, type(None)})
_ROUGH_TEXT_CHARS: Final = MAX_TEXT_CHARS + MARGIN_CHARS


class Border:
    """
    Makes of an event and its content what may leave the process.

    In this order: digests, previews and payload from the whole content; a hot session's
    payload is folded; the content policy; redaction; your hooks; the caps. For one
    thread at a time.

    Args:
        settings: default: from the environment and the settings file.
        redactors: hooks, each from event to event, that see what is left after ours.
            One that raises, or changes who and where the event is, costs the event
            its content, never its place: `withheld` counts them.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        settings: ContentSettings | None = None,
        *,
        redactors: Sequence[Callable[[AuditEvent], AuditEvent]] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        settings = settings or ContentSettings()
        self._key = settings.key()
        self._policy = settings.policy
        self._policies = Policies(settings.policy, settings.tools, self._key)
        self._passes_all = settings.policy == "full" and not settings.tools
        self._redacts = settings.redact
        self._hooks = tuple(redactors)
        self._max_payload_bytes = settings.max_payload_bytes
        self._short_payload = settings.max_payload_bytes // _UTF8_BYTES
        self._short_chars = (self._short_payload, *_SHORT_CHARS)
        self._hot: HotSessions | None = None
        if settings.hot_session_rate is not None:
            self._hot = HotSessions(
                settings.hot_session_rate, settings.hot_session_burst, clock
            )
        self._redactor = Redactor(
            names=settings.redact_names,
            patterns=settings.patterns(),
            key=self._key,
        )
        self.withheld = 0

    def __call__(self, event: AuditEvent, content: Content | None = None) -> AuditEvent:
        """
        Return the event, filled and fit to leave.

        Raises:
            InvalidEventError: its payload is no text.
        """
        if type(event.payload) not in _TEXT_OR_NONE:
            raise InvalidEventError("payload", "is not text")
        if content is not None:
            content = snapshot(content)
            before, event = event, enriched(event, content, key=self._key)
            event = _with_wide_previews(before, event, content)
        if self._hot is not None and self._hot.is_hot(event.session_id):
            event = _folded(event)
        whole = event
        if not self._passes_all:
            event = self._policies.apply(self._policies.of(event), event)
        is_short = self._is_short(event)
        if self._redacts:
            event = self._redactor.event(event if is_short else _roughly_cut(event))
        for hook in self._hooks:
            event = self._hooked(hook, event)
        if event is whole and is_short:
            return event
        return self._capped(event, len(whole.payload or ""))

    def suspects(
        self, columns: Sequence[Sequence[Any]], contents: Sequence[Content | None]
    ) -> set[int] | None:
        """
        Return the places of the events that must come here; others leave as they are.

        None: all must, and once, because more than each by itself matters.

        Args:
            columns: the fields, each of all events.
            contents: those of the events.
        """
        if self._hooks or self._hot is not None:
            return None
        everyone = range(len(contents))
        if not (self._passes_all and {*map(type, columns[_PAYLOAD])} <= _TEXT_OR_NONE):
            return {*everyone}
        found = {at for at in everyone if contents[at] is not None}
        found.update(at for at, some in enumerate(columns[_ATTRIBUTES]) if some)
        for texts, chars in zip(_content(columns), self._short_chars, strict=True):
            if any(texts):
                found.update(
                    [at for at, one in enumerate(texts) if one and len(one) > chars]
                )
        if self._redacts and len(found) < len(contents):
            found.update(self._redactor.suspects(columns))
        return found

    def data(self, data: bytes) -> bytes:
        """Return of a dead letter's bytes what may leave, cut at 1 MiB."""
        if self._policy == "hash":
            return hashed_bytes(data, self._key)
        if self._policy != "full":
            return b""
        data = data[: MAX_RECORD_BYTES + MARGIN_CHARS]
        if self._redacts:
            data = self._redactor.data(data)
        return data[:MAX_RECORD_BYTES]

    def text(self, text: str) -> str:
        """Return of a text that belongs to no event what may leave."""
        return self._redactor.text(text) if self._redacts else text

    def name(self, name: str) -> str:
        """Return of an id that belongs to no event what may leave."""
        return self._redactor.name(name) if self._redacts else name

    def _hooked(
        self, hook: Callable[[AuditEvent], AuditEvent], event: AuditEvent
    ) -> AuditEvent:
        try:
            after = hook(event)
            if type(after) is AuditEvent and _place(after) == _place(event):
                return after
            problem = "it changed what is no content"
        except Exception as error:  # noqa: BLE001  # it is not ours
            problem = type(error).__name__
        if not self.withheld:
            logger.warning(
                "A redaction hook failed (%s): the event goes without content.", problem
            )
        self.withheld += 1
        bare = without_content(event)
        return bare._replace(attributes={**bare.attributes, WITHHELD: "hook"})

    def _is_short(self, event: AuditEvent) -> bool:
        """Tell whether no cap can matter: it is what most events are."""
        payload, arguments, result, error, reason = _content(event)
        return (
            (payload is None or len(payload) <= self._short_payload)
            and (arguments is None or len(arguments) <= PREVIEW_CHARS)
            and (result is None or len(result) <= PREVIEW_CHARS)
            and (error is None or len(error) <= MAX_TEXT_CHARS)
            and (reason is None or len(reason) <= MAX_TEXT_CHARS)
            and not event.attributes
        )

    def _capped(self, event: AuditEvent, chars: int) -> AuditEvent:
        changes: dict[str, Any] = {}
        payload = event.payload
        if payload is not None:
            capped = capped_payload(payload, self._max_payload_bytes, chars)
            if capped is not payload:
                changes["payload"] = capped
            if event.payload_chars is None and len(capped) != chars:
                changes["payload_chars"] = chars
        for name in ("arguments_preview", "result_preview"):
            text = getattr(event, name)
            if text is not None and len(text) > PREVIEW_CHARS:
                changes[name] = preview(text)
        if changes:
            event = _changed(event, changes)
        return _with_shorter_texts(event, MAX_TEXT_CHARS)


def _place(event: AuditEvent) -> tuple[str, str, str, str, int]:
    return (
        event.event_id,
        event.event_type,
        event.session_id,
        event.producer_id,
        event.sequence,
    )


def _with_wide_previews(
    before: AuditEvent, event: AuditEvent, content: Content
) -> AuditEvent:
    """Widen the previews made here, so that redaction sees whole tokens."""
    changes: dict[str, Any] = {}
    for name, whole in (
        ("arguments_preview", content.arguments),
        ("result_preview", content.result),
    ):
        if (
            isinstance(whole, str)
            and len(whole) > PREVIEW_CHARS
            and getattr(before, name) is None
        ):
            token = _TOKEN.match(whole, PREVIEW_CHARS, _MAX_PREVIEW_CHARS)
            changes[name] = whole[: token.end()] if token else whole
    return _changed(event, changes) if changes else event


def _changed(event: AuditEvent, changes: Mapping[str, Any]) -> AuditEvent:
    # `_replace` looks at each of the fields: five times as long.
    fields: list[Any] = list(event)
    for name, value in changes.items():
        fields[_AT[name]] = value
    return AuditEvent._make(fields)


def _folded(event: AuditEvent) -> AuditEvent:
    if event.payload is None:
        return event._replace(arguments_preview=None, result_preview=None)
    chars = len(event.payload)
    return event._replace(
        payload=json.dumps({"fleetwake_folded": {"chars": chars}}),
        payload_chars=chars if event.payload_chars is None else event.payload_chars,
        arguments_preview=None,
        result_preview=None,
    )


def _roughly_cut(event: AuditEvent) -> AuditEvent:
    if event.payload is not None:
        payload = rough_payload(event.payload)
        if payload is not event.payload:
            event = event._replace(payload=payload)
    return _with_shorter_texts(event, _ROUGH_TEXT_CHARS)


def _with_shorter_texts(event: AuditEvent, chars: int) -> AuditEvent:
    attributes = event.attributes
    if not attributes and event.error_message is None and event.reason is None:
        return event
    changes: dict[str, Any] = {}
    for name in ("error_message", "reason"):
        text = getattr(event, name)
        if text is not None and len(text) > chars:
            changes[name] = capped_text(text, chars)
    if max(map(len, attributes.values()), default=0) > chars:
        changes["attributes"] = {
            name: capped_text(text, chars) for name, text in attributes.items()
        }
    return _changed(event, changes) if changes else event
