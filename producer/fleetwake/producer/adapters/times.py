"""Times of other systems, in microseconds since the epoch."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from fleetwake.producer.adapters.mapping import UnmappableError
from fleetwake.schemas.checks import MAX_TIME_US

__all__ = ["micros", "micros_of_epoch"]

# RFC 3339, and what readers of the four systems take beside it: a space for the T,
# lower case, no seconds' fraction.
_TIME: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:[.]([0-9]+))?([Zz]|[+-][0-9]{2}:?[0-9]{2})?"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def micros(value: object) -> int:
    """
    Return the time of an RFC 3339 text. Digits beyond microseconds are cut.

    Raises:
        UnmappableError: timestamp_missing, timestamp_not_text, timestamp_malformed
            (a leap second too), timestamp_without_zone (guessing one would forge
            evidence), or timestamp_out_of_range (not after 1970's first instant, or
            after 9999).
    """
    if value is None or value == "":
        raise UnmappableError("timestamp_missing", "the record has no timestamp")
    if not isinstance(value, str):
        raise UnmappableError(
            "timestamp_not_text", f"a timestamp is text, not {type(value).__name__}"
        )
    parts = _TIME.fullmatch(value)
    if parts is None:
        raise UnmappableError("timestamp_malformed", "the timestamp is not RFC 3339")
    day, clock, fraction, zone = parts.groups()
    if zone is None:
        raise UnmappableError(
            "timestamp_without_zone", "the timestamp names no zone: add Z or an offset"
        )
    microseconds = (fraction or "")[:6].ljust(6, "0")
    try:
        at = datetime.fromisoformat(f"{day}T{clock}.{microseconds}{zone.upper()}")
        return micros_of_epoch((at - _EPOCH) // _MICROSECOND)
    except (ValueError, OverflowError) as error:
        raise UnmappableError(
            "timestamp_malformed", "the timestamp is no day and time"
        ) from error


def micros_of_epoch(value: int) -> int:
    """
    Return `value` if it is a time that an event can have.

    Raises:
        UnmappableError: timestamp_out_of_range.
    """
    # The epoch itself is a clock that was never set, and our word for "not given".
    if not 0 < value <= MAX_TIME_US:
        raise UnmappableError(
            "timestamp_out_of_range", "the timestamp is not in 1970 to 9999"
        )
    return value
