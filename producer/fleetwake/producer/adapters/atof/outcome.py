"""How a scope ended, as far as its record says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from fleetwake.producer.adapters.atof.record import named, short_text, text_of

if TYPE_CHECKING:
    from fleetwake.producer.adapters.atof.record import AtofRecord

__all__ = ["Outcome", "outcome_of", "severity_of"]

_OUTCOMES: Final = {"OK": "success", "ERROR": "failure"}

# Relay's own words for errors, and the names of exceptions.
_ERROR_KINDS: Final = {
    "not_found": "not_found",
    "FileNotFoundError": "not_found",
    "NotFoundError": "not_found",
    "invalid_argument": "invalid_arguments",
    "ValidationError": "invalid_arguments",
    "PermissionError": "permission",
    "PermissionDeniedError": "permission",
    "AuthenticationError": "permission",
    "TimeoutError": "timeout",
    "APITimeoutError": "timeout",
    "ReadTimeout": "timeout",
    "ConnectTimeout": "timeout",
    "RateLimitError": "rate_limit",
}
_SEVERITIES: Final = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "warn": "warning",
    "warning": "warning",
    "error": "error",
    "critical": "critical",
    "fatal": "critical",
}


class Outcome(NamedTuple):
    """An outcome of the envelope, and the error if it is a failure."""

    word: str
    error: str | None = None
    error_type: str | None = None
    error_kind: str | None = None
    status: str | None = None
    """A status that is none of OpenTelemetry's."""


def outcome_of(record: AtofRecord) -> Outcome:
    """
    Read the status of a scope's end.

    Without one it is unknown: nemo-flow tells a failed call as it tells one that
    returned nothing.
    """
    metadata = record.metadata
    status = short_text(named(metadata, "otel.status_code")) or ""
    failed_with = short_text(named(metadata, "exception.type")) or short_text(
        named(metadata, "error.type")
    )
    told = text_of(metadata.get("error"))
    word = _OUTCOMES.get(status.upper(), "unknown")
    other = status if word == "unknown" and status else None
    if word == "unknown" and (failed_with or told):
        word = "failure"
    if word != "failure":
        return Outcome(word, status=other)
    kind = _ERROR_KINDS.get((failed_with or "").rpartition(".")[2], "other")
    message = text_of(named(metadata, "otel.status_description")) or told
    return Outcome(word, message, failed_with, kind, other)


def severity_of(record: AtofRecord) -> str:
    """Return the severity that a mark states; info where it states none."""
    stated = text_of(named(record.metadata, "nemo_relay.log.severity")) or ""
    return _SEVERITIES.get(stated.lower(), "info")
