"""
Takes credentials out of events, texts and bytes before they leave the process.

What stands in their place says what it was: `[redacted:github-pat]`. Where a credential
is known by the name before it, it is the value that goes: of JSON members, headers
(also as pairs), `KEY=value` and parts of connection strings.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from fleetwake.producer.redaction.document import (
    Document,
    has_late_name,
    is_document,
    mark,
)
from fleetwake.producer.redaction.names import (
    NameRules,
    has_scheme,
    is_folder,
    scheme_spans,
)
from fleetwake.producer.redaction.shapes import shape_spans, windows
from fleetwake.producer.redaction.signs import PEM, Signs, lower, unescaped
from fleetwake.schemas.event import AuditEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from fleetwake.producer.redaction.shapes import Span

__all__ = ["REDACTED", "Redactor"]

REDACTED: Final = "fleetwake.redacted"
"""The attribute that says how many credentials were taken out of an event."""

_AT: Final = {name: index for index, name in enumerate(AuditEvent._fields)}
_TEXTS: Final = tuple(
    _AT[name]
    for name in (
        "payload",
        "arguments_preview",
        "result_preview",
        "error_message",
        "reason",
    )
)
# Their words are given, so there is nothing in them.
_CLOSED: Final = ("event_type", "severity", "outcome", "error_kind", "digest_basis")
_IDS: Final = tuple(
    index
    for name, index in _AT.items()
    if "str" in str(AuditEvent.__annotations__[name])
    and name not in {"attributes", *_CLOSED}
    and index not in _TEXTS
)
# These are seldom the same twice; all others together mostly are.
_FRESH_IDS: Final = tuple(
    _AT[name]
    for name in (
        *("event_id", "turn_id", "round_id", "span_id", "parent_span_id"),
        "tool_call_id",
    )
)
_STEADY_IDS: Final = tuple(at for at in _IDS if at not in _FRESH_IDS)
_texts = itemgetter(*_TEXTS)
_changing = itemgetter(*_TEXTS, *_FRESH_IDS)
_steady_ids = itemgetter(*_STEADY_IDS)
_ATTRIBUTES: Final = _AT["attributes"]
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PEM_BEGIN: Final = re.compile(
    r"-----BEGIN[ A-Z0-9_-]{0,100}PRIVATE KEY(?: BLOCK)?-----", re.IGNORECASE
)
_PEM_END: Final = re.compile(r"KEY(?: BLOCK)?-----", re.IGNORECASE)
_CACHED_IDS: Final = 8_192
_CACHED_ID_CHARS: Final = 256
# Of one question, so that it is soon answered, and in how many parts it is asked again.
_MAX_ASKED_CHARS: Final = 262_144
_PARTS: Final = 8
_MAX_NESTING: Final = 4
_MARK: Final = "[redacted:"
_MARKED_ID: Final = re.compile(r"\[redacted:[\w.-]{1,80}:[0-9a-f]{16}\]")
_MAX_MARK_CHARS: Final = 128
# Without one of these there is nothing that a name or a scheme could give away.
_SIGN: Final = re.compile(r"""[\s=:>"'`\\]""")


class Redactor:
    """
    Takes credentials out. Threads may share it.

    Args:
        names: beside the built-in ones, of JSON members, headers and variables whose
            values are secret. Compared without case and punctuation.
        patterns: beside the built-in ones, by the name that replaces a match. They see
            8,192 characters at a time.
        key: for the digest that stands for a credential in an id.
    """

    def __init__(
        self,
        *,
        names: Sequence[str] = (),
        patterns: Mapping[str, re.Pattern[str]] | None = None,
        key: bytes = b"",
    ) -> None:
        self._names = NameRules(names)
        self._patterns = tuple((patterns or {}).items())
        self._key = key
        self._signs = Signs(self._names.needles)
        self._cached_id = lru_cache(maxsize=_CACHED_IDS)(self._id)

    def text(self, text: str) -> str:
        """Return a text, perhaps a JSON document, without credentials."""
        return self._redacted(text, 0) if self._is_suspect(text) else text

    def data(self, data: bytes) -> bytes:
        """Return bytes, in UTF-8, UTF-16 or broken, without credentials."""
        redacted = self._data(data)
        if redacted == data and b"\0" in data:
            # UTF-16 or worse: if it hides something, it goes without its zeros.
            plain = data.replace(b"\0", b"")
            bare = self._data(plain)
            return data if bare == plain else bare
        return redacted

    def event(self, event: AuditEvent) -> AuditEvent:
        """
        Return an event without credentials, and with their number in its attributes.

        In ids and other names a credential becomes `[redacted:<what>:<digest>]`: two
        sessions stay two, and one stays one.
        """
        if not self._may_hold_one(event):
            return event
        suspects = self._secret_ids(event)
        fields: list[Any] = list(event)
        # One by one: joined, a text is not alone, and "Bearer x" alone is a header.
        count = self._redact_content(fields)
        for at in suspects:
            fields[at] = self.name(fields[at])
        count += len(suspects)
        if not count:
            return event
        fields[_ATTRIBUTES] = {**fields[_ATTRIBUTES], REDACTED: str(count)}
        return AuditEvent._make(fields)

    def suspects(self, columns: Sequence[Sequence[Any]]) -> list[int]:
        """
        Return the places of the events that `event` must see; others may be left out.

        Args:
            columns: the fields, each of all events, which have no attributes.
        """
        if self._patterns:
            return [*range(len(columns[0]))]
        found = self._with_secret_ids([*filter(any, _steady_ids(columns))])
        fresh = [*filter(any, _changing(columns))]
        texts = ["\n".join(filter(None, row)) for row in zip(*fresh, strict=True)]
        found.extend(self._asked(texts, 0))
        return found

    def _with_secret_ids(self, columns: Sequence[Sequence[str | None]]) -> list[int]:
        names = set[str | None]().union(*columns) - self._signs.harmless - {None}
        if not names or not self._signs.may_be_in("", names):
            return []
        secret = {
            name for name in names if type(name) is not str or self.name(name) != name
        }
        self._signs.remember(names - secret)
        rows = enumerate(zip(*columns, strict=True))
        return [at for at, row in rows if not secret.isdisjoint(row)]

    def _asked(self, texts: Sequence[str], start: int) -> Iterator[int]:
        """Ask of many texts, then of fewer of them, and last of one."""
        is_short = sum(map(len, texts)) <= _MAX_ASKED_CHARS
        if is_short and not self._signs.may_be_in("\n".join(texts)):
            return
        if len(texts) == 1:
            yield start
            return
        step = -(-len(texts) // _PARTS)
        for at in range(0, len(texts), step):
            yield from self._asked(texts[at : at + step], start + at)

    def _may_hold_one(self, event: AuditEvent) -> bool:
        if self._patterns:
            return True
        texts = [text for text in _changing(event) if text is not None]
        if event.attributes:
            texts += _members(event)
        steady = _steady_ids(event)
        is_known = self._signs.harmless.issuperset(steady)
        return self._signs.may_be_in("\n".join(texts), set() if is_known else {*steady})

    def _secret_ids(self, event: AuditEvent) -> list[int]:
        """Find the ids with a credential."""
        fields: list[Any] = list(event)
        found = [
            at
            for at in _IDS
            if (name := fields[at]) is not None
            and name not in self._signs.harmless
            and not _UUID.fullmatch(name)
            and self.name(name) != name
        ]
        self._signs.remember({fields[at] for at in _STEADY_IDS if at not in found})
        return found

    def _redact_content(self, fields: list[Any]) -> int:
        count = 0
        for at in _TEXTS:
            if fields[at] is not None and (new := self.text(fields[at])) != fields[at]:
                fields[at] = new
                count += new.count(_MARK)
        if old := fields[_ATTRIBUTES]:
            pairs = {self.text(name): self._attribute(name, old[name]) for name in old}
            if pairs != old:
                fields[_ATTRIBUTES] = pairs
                texts = (text for pair in pairs.items() for text in pair)
                count += sum(text.count(_MARK) for text in texts)
        return count

    def _attribute(self, name: str, text: str) -> str:
        kind = self._names.secret(name)
        if kind and text and not is_folder(kind, text):
            return mark(kind)
        return self.text(text)

    def name(self, name: str) -> str:
        """Return an id with a digest in place of a credential; see `event`."""
        short = len(name) <= _CACHED_ID_CHARS
        return self._cached_id(name) if short else self._id(name)

    def _id(self, name: str) -> str:
        def digested(span: Span) -> str:
            start, end, kind = span
            secret = name[start:end].encode("utf-8", "surrogatepass")
            digest = blake2b(secret, digest_size=8, key=self._key).hexdigest()
            return mark(f"{kind}:{digest}")

        if not _SIGN.search(name):
            return _replaced(name, list(self._shapes(name, lower(name))), digested)
        return self._without_secrets(name, digested)

    def _data(self, data: bytes) -> bytes:
        text = data.decode("utf-8", "surrogateescape")
        redacted = self.text(text)
        if redacted is text:
            return data
        return redacted.encode("utf-8", "surrogateescape")

    def _is_suspect(self, text: str) -> bool:
        if self._reads_suspect(text):
            return True
        plain = unescaped(text) if "\\" in text else text
        return plain is not text and self._reads_suspect(plain)

    def _reads_suspect(self, text: str) -> bool:
        lowered = lower(text)
        if not (self._patterns or self._signs.needles.may_be_in(lowered)):
            return False
        return (
            self._names.names_one(text, lowered)
            or has_late_name(lowered)
            or has_scheme(text, lowered)
            or next(self._shapes(text, lowered), None) is not None
        )

    def _redacted(self, text: str, nesting: int) -> str:
        if nesting < _MAX_NESTING and is_document(text):
            return Document(
                text, self._names.secret, lambda part: self._redacted(part, nesting + 1)
            ).redacted()
        return self._without_secrets(text, lambda span: mark(span[2]))

    def _without_secrets(self, text: str, replacement: Callable[[Span], str]) -> str:
        lowered = lower(text)
        spans = [
            *self._shapes(text, lowered),
            *scheme_spans(text, lowered),
            *self._names.spans(text, lowered),
        ]
        if spans and _MARK in text:
            spans = [span for span in spans if not _is_marked(text, span)]
        if not spans and "\\" in text and (plain := unescaped(text)) != text:
            redacted = self._without_secrets(plain, replacement)
            return text if redacted == plain else redacted
        return _replaced(text, spans, replacement)

    def _shapes(self, text: str, lowered: str) -> Iterator[Span]:
        yield from shape_spans(text, lowered)
        if PEM in lowered:
            yield from _private_keys(text)
        for name, pattern in self._patterns:
            for begin, end in windows(0, len(text)):
                for match in pattern.finditer(text, begin, end):
                    yield *match.span(), name


def _members(event: AuditEvent) -> list[str]:
    # A name may give away what stands behind it.
    return [f'"{name}": {text}' for name, text in event.attributes.items()]


def _is_marked(text: str, span: Span) -> bool:
    """Tell whether it is what an earlier redaction has put into an id."""
    start, end, _ = span
    at = text.rfind(_MARK, max(0, start - _MAX_MARK_CHARS), start + len(_MARK))
    marked = _MARKED_ID.match(text, at) if at >= 0 else None
    return marked is not None and end <= marked.end()


def _private_keys(text: str) -> Iterator[Span]:
    for match in _PEM_BEGIN.finditer(text):
        end = _PEM_END.search(text, match.end())
        yield match.start(), end.end() if end else len(text), "private-key"


def _replaced(text: str, spans: list[Span], replacement: Callable[[Span], str]) -> str:
    if not spans:
        return text
    parts: list[str] = []
    done = 0
    for span in sorted(spans, key=lambda span: (span[0], -span[1])):
        start, end, _ = span
        if start >= done:
            parts += [text[done:start], replacement(span)]
        done = max(done, end)
    return "".join([*parts, text[done:]])
