"""Records as the broker gave them: one, and those of a poll as columns."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from itertools import accumulate, chain
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, overload

from fleetwake.schemas.codec import SHA256_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Headers", "Record", "Records"]

Headers: TypeAlias = tuple[tuple[str, bytes], ...]

_FIRST: Final = itemgetter(0)


class Record(NamedTuple):
    """One record as the broker gave it. `timestamp_ms` is the broker's append time."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Records(Sequence[Record]):
    """
    Records of one partition, in offset order, as columns. Not to be changed.

    Most of what reads the records of a poll wants one column, which costs nothing; a
    `Record` is made when it is asked for. For any thread.
    """

    def __init__(
        self,
        offsets: Sequence[int] = (),
        timestamps_ms: Sequence[int] = (),
        keys: Sequence[bytes | None] = (),
        values: Sequence[bytes | None] = (),
        headers: Sequence[Headers] = (),
    ) -> None:
        self.offsets = offsets
        self.timestamps_ms = timestamps_ms
        self.keys = keys
        self.values = values
        self.headers = headers

    @classmethod
    def of(
        cls, records: Iterable[tuple[int, int, bytes | None, bytes | None, Headers]]
    ) -> Records:
        """Return what is a `Records` already, or make one."""
        if isinstance(records, cls):
            return records
        return cls(*zip(*records, strict=True))

    @cached_property
    def size(self) -> int:
        """Bytes of all keys and values."""
        return sum(map(len, filter(None, chain(self.keys, self.values))))

    def head(self, most: int) -> Records:
        """Return the first of them: as many as have `most` bytes, and at least one."""
        if self.size <= most:
            return self
        sizes = [
            len(key or b"") + len(value or b"")
            for key, value in zip(self.keys, self.values, strict=True)
        ]
        return self[: max(1, bisect_right(list(accumulate(sizes)), most))]

    @cached_property
    def first_headers(self) -> frozenset[str]:
        """The names that the first headers of the records have."""
        return frozenset(map(_FIRST, map(_FIRST, filter(None, self.headers))))

    @cached_property
    def digests(self) -> Sequence[bytes | None]:
        """What the SHA-256 of each value must be; None: its producer does not say."""
        # What our producers write has this header and mostly no other.
        with suppress(ValueError):
            only = [one for ((name, one),) in self.headers if name == SHA256_HEADER]
            if len(only) == len(self.headers):
                return only
        return [
            next((one for name, one in headers if name == SHA256_HEADER), None)
            if headers
            else None
            for headers in self.headers
        ]

    def __len__(self) -> int:
        """Count them."""
        return len(self.offsets)

    def __iter__(self) -> Iterator[Record]:
        """Make each in turn."""
        return map(
            Record,
            self.offsets,
            self.timestamps_ms,
            self.keys,
            self.values,
            self.headers,
        )

    @overload
    def __getitem__(self, at: int, /) -> Record: ...
    @overload
    def __getitem__(self, at: slice, /) -> Records: ...
    def __getitem__(self, at: int | slice, /) -> Record | Records:
        """Make one, or cut the columns."""
        if isinstance(at, int):
            return Record(
                self.offsets[at],
                self.timestamps_ms[at],
                self.keys[at],
                self.values[at],
                self.headers[at],
            )
        if at.indices(len(self)) == (0, len(self), 1):
            return self  # with what is computed already
        return Records(
            self.offsets[at],
            self.timestamps_ms[at],
            self.keys[at],
            self.values[at],
            self.headers[at],
        )
