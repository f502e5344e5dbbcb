"""What an event is about, whole: from it come digests, previews and the payload."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from json import encoder
from json.encoder import encode_basestring_ascii
from pathlib import PurePath
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

__all__ = [
    "ABSENT",
    "NOT_FINITE",
    "Absent",
    "Content",
    "frozen",
    "plain_json",
    "snapshot",
]

NOT_FINITE: Final = "not_finite"
"""A note for attributes["fleetwake.repaired"]: a NaN or an infinity became text."""

_SLICE_CHARS: Final = 32_768
_MEMBER_CHARS: Final = 10
_FEW: Final = 16
_SHORT_CHARS: Final = _SLICE_CHARS // _FEW
_SCALARS: Final = frozenset({int, float, bool, type(None)})
_NUMBER_CHARS: Final = 16
_HUGE: Final = 2**63
_MARKER_CHARS: Final = 200
_MAX_DEPTH: Final = 100
_MAX_INTEGER_BITS: Final = 14_000

# What means the same in every run as text; the text of others may hold an address.
_TEXTUAL: Final = (date, time, timedelta, Decimal, UUID, PurePath)

# What has members or characters, so that it may take long.
_LONG: Final = (str, dict, list, tuple)

_ENCODER: Final = json.JSONEncoder(
    separators=(",", ":"), check_circular=False, allow_nan=False
)


class Absent(Enum):
    """The type of `ABSENT`."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT
"""In place of arguments that are not known; None are arguments of the value null."""


class Content(NamedTuple):
    """
    What an event is about, before anything is cut or redacted.

    Given to `emit` beside an event. The producer's thread fills the event's digests,
    previews, lengths and payload from it where they are None; the content itself then
    goes no further than the content policy allows. Values are text, or whatever JSON
    can say; they are read before `emit` returns, so that they may change later.
    """

    arguments: object = ABSENT
    """Of a call. Text that is JSON is the same as what it stands for."""
    result: object = None
    """What a call came to; None: not known."""
    error: str | None = None
    """The text of an error, for `error_message` and its digests."""
    text: str | None = None
    """What a model or a user said."""
    record: object = ABSENT
    """
    The source's own record, for `payload`. Text is taken as the JSON that it is. Where
    there is none, the payload is an object of the other members that are given.
    """
    basis: Literal["full", "preview"] = "full"
    """`preview` where the source has cut arguments or result itself."""
    note: str = ""
    """What `snapshot` had to repair: "" or `NOT_FINITE`."""


_content_of = partial(tuple.__new__, Content)


def frozen(content: Content) -> tuple[Content, int]:
    """
    Return the content so that nobody changes it any more, and its rough length.

    Costs 1 us for text and for a dict of a few texts and numbers, which is copied as it
    is. What is more than that is text from here on, see `snapshot`. Never raises,
    whatever the objects are.
    """
    chars = 0
    copies: list[Any] | None = None
    for at, member in enumerate(content):
        if type(member) is str:
            chars += len(member)
        elif type(member) is dict:
            copied = _copied(member)
            if copied is None:
                break
            copies = copies or list(content)
            copies[at], more = copied
            chars += more
        elif member is not None and member is not ABSENT:
            break
    else:
        return _content_of(copies) if copies else content, chars
    content = snapshot(content)
    return content, sum([len(text) for text in content if type(text) is str])


def _copied(value: dict[Any, Any]) -> tuple[dict[str, Any], int] | None:
    """Return a copy and its rough length, where nothing in it can ever change."""
    if len(value) > _FEW:
        return None
    # Nobody else has the copy: it stays as it is looked at here.
    value = value.copy()
    chars = len(value) * _NUMBER_CHARS
    for name, member in value.items():
        if type(member) is str:
            chars += len(member)
        elif type(member) not in _SCALARS or (
            type(member) is int and not -_HUGE < member < _HUGE
        ):
            return None
        if type(name) is not str:
            return None
        chars += len(name)
    return value, chars


def snapshot(content: Content) -> Content:
    """
    Return the content as it is now: text, and JSON text in place of objects.

    Costs 5 us for a dict of 1 KB. Never raises, whatever the objects are. Their JSON
    is ASCII, so that lone surrogates stay escaped in it.
    """
    arguments, result, error, text, record, basis, note = content
    is_ready = True
    if type(arguments) is not str and arguments is not ABSENT:
        arguments, repaired = plain_json(arguments)
        note, is_ready = NOT_FINITE if repaired else note, False
    if type(result) is not str and result is not None:
        result, repaired = plain_json(result)
        note, is_ready = NOT_FINITE if repaired else note, False
    if type(record) is not str and record is not ABSENT:
        record, repaired = plain_json(record)
        note, is_ready = NOT_FINITE if repaired else note, False
    if type(error) is not str and error is not None:
        error, is_ready = plain_json(error)[0], False
    if type(text) is not str and text is not None:
        text, is_ready = plain_json(text)[0], False
    if is_ready:
        return content
    return Content(arguments, result, error, text, record, basis, note)


def plain_json(value: object) -> tuple[str, bool]:
    """
    Return the value as JSON text, and whether a NaN or an infinity in it became text.

    Dates, paths, UUIDs, decimals and bytes are text; lists, tuples, sets and frozensets
    are arrays; what cannot be said, other iterables included, is
    `{"fleetwake_type": <its type>}`, and what stands deeper than 100 levels or inside
    itself `"..."`.
    """
    if type(value) is str and len(value) <= _SLICE_CHARS:
        return encode_basestring_ascii(value), False
    try:
        if _is_small(value) or _weight(value) <= _SLICE_CHARS:
            return _encoded(value), False
    except Exception:  # noqa: BLE001, S110  # an object may raise anything
        pass
    writer = _Writer()
    return writer(value), writer.repaired


def _encode_in_c() -> Callable[[object], str]:
    """Return what does as `_ENCODER.encode`, which makes an encoder for each call."""
    make: Any = getattr(encoder, "c_make_encoder", None)
    if make is None:  # no CPython
        return _ENCODER.encode
    encode = make(
        None,
        _ENCODER.default,
        encode_basestring_ascii,
        None,
        ":",
        ",",
        False,
        False,
        False,
    )
    return lambda value: "".join(encode(value, 0))


_encoded: Final = _encode_in_c()


class _Writer:
    """Says in JSON what the json module cannot, and what is long in short steps."""

    def __init__(self) -> None:
        self.repaired = False
        self._inside: set[int] = set()

    def __call__(self, value: object) -> str:  # noqa: PLR0911  # one per kind
        try:
            match value:
                case None | bool():
                    return _ENCODER.encode(value)
                case str():
                    return _quoted(str.__str__(value))
                case Enum():
                    return self(value.value)
                case int():
                    return _whole(int(value))
                case float():
                    return self._finite(float(value))
                case bytes() | bytearray():
                    return _quoted(value.decode("utf-8", "replace"))
                case _:
                    return self._nested(value)
        except Exception:  # noqa: BLE001  # see plain_json
            return _marker(value)

    def _nested(self, value: object) -> str:
        if isinstance(value, _TEXTUAL):
            return _quoted(str(value))
        if id(value) in self._inside or len(self._inside) >= _MAX_DEPTH:
            return '"..."'
        self._inside.add(id(value))
        try:
            if isinstance(value, Mapping):
                # No list of pairs: the garbage collector would look at all of them.
                own: dict[object, object] = (
                    dict(value) if type(value) is dict else dict(value.items())
                )
                names, items = list(own), list(own.values())
                parts = [self._pairs(names[at], items[at]) for at in _slices(items)]
                return "{" + ",".join(parts) + "}"
            if isinstance(value, (list, tuple, set, frozenset)):
                items = list[object](value)
                parts = [self._items(items[at]) for at in _slices(items)]
                return "[" + ",".join(parts) + "]"
            return _marker(value)
        finally:
            self._inside.discard(id(value))

    def _items(self, items: Sequence[object]) -> str:
        with contextlib.suppress(Exception):
            if len(items) > 1:
                return _ENCODER.encode(items)[1:-1]
        return ",".join(map(self, items))

    def _pairs(self, names: Sequence[object], items: Sequence[object]) -> str:
        pairs = zip(names, items, strict=True)
        with contextlib.suppress(Exception):
            if len(items) > 1:
                return _ENCODER.encode(dict(pairs))[1:-1]
        pairs = zip(names, items, strict=True)
        return ",".join([f"{self._name(name)}:{self(item)}" for name, item in pairs])

    def _finite(self, number: float) -> str:
        if math.isfinite(number):
            return json.dumps(number)
        self.repaired = True
        return f'"{json.dumps(number)}"'

    def _name(self, name: object) -> str:
        said = self(name)
        return said if said.startswith('"') else _quoted(said)


def _quoted(text: str) -> str:
    slices = range(0, len(text), _SLICE_CHARS)
    escaped = [
        encode_basestring_ascii(text[at : at + _SLICE_CHARS])[1:-1] for at in slices
    ]
    return '"' + "".join(escaped) + '"'


def _whole(number: int) -> str:
    # Python says no number of more than 4,300 digits, and few readers take one.
    return str(number) if number.bit_length() < _MAX_INTEGER_BITS else f'"{number:#x}"'


def _marker(value: object) -> str:
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"[:_MARKER_CHARS]
    return _ENCODER.encode({"fleetwake_type": name})


def _slices(items: Sequence[object]) -> Iterator[slice]:
    """Cut where one call for all would take long; what is heavy stands alone."""
    begin = weight = 0
    for at, item in enumerate(items):
        try:
            more = _weight(item)
        except Exception:  # noqa: BLE001  # an object may raise anything
            more = _SLICE_CHARS + 1
        weight += more
        if weight > _SLICE_CHARS and begin < at:
            yield slice(begin, at)
            begin, weight = at, more
    if begin < len(items):
        yield slice(begin, None)


def _is_small(value: object) -> bool:
    """Tell quickly of what most arguments are: a few short texts and numbers."""
    if type(value) is not dict or len(value) > _FEW:
        return False
    for member in value.values():
        if type(member) is str:
            if len(member) > _SHORT_CHARS:
                return False
        elif type(member) not in _SCALARS:
            return False
    return True


def _weight(value: object) -> int:
    """Return roughly the characters of its JSON, as far as `_SLICE_CHARS`."""
    # One C call over megabytes would hold up the agent's other threads.
    weight = 0
    inside: list[Any] = [(value,)]
    for one in inside:
        weight += len(one) * _MEMBER_CHARS
        if weight > _SLICE_CHARS:
            break
        members = one
        if isinstance(one, dict):
            members = one.values()
        for member in members:
            if type(member) is str:
                weight += len(member)
            elif isinstance(member, _LONG):
                if isinstance(member, str):
                    weight += len(member)
                else:
                    inside.append(member)
    return weight
