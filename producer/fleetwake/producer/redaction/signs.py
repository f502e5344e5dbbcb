"""Asks once of many texts for the signs of all rules: most texts have none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from fleetwake.producer.redaction.document import LATE_NAMES
from fleetwake.producer.redaction.names import SCHEMES
from fleetwake.producer.redaction.needles import Needles
from fleetwake.producer.redaction.shapes import needles

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

__all__ = ["PEM", "Signs", "lower", "unescaped"]

PEM: Final = "-----begin"
"""It is in each text, in lower case, with a private key."""

_ESCAPED: Final = re.compile(r"\\+u00([2-7][0-9a-fA-F])")
_ESCAPES: Final = Needles([r"\\u00", r"\\/"])
_KEPT_NAMES: Final = 8_192
_MAX_NAME_CHARS: Final = 256


class Signs:
    """
    Tells that texts hold no credential, and remembers the names that are none.

    A sign is in a text wherever that stands; what it is a sign of may not be. So texts
    may be joined by line breaks, which are in no sign. Threads may share it.

    Args:
        names: the signs of the names that give a value away.
    """

    def __init__(self, names: Needles) -> None:
        self._names = names
        self._all: Needles | None = None
        self.harmless: set[str | None] = set()
        """At most 8,192 and one batch, of 256 characters."""

    @property
    def needles(self) -> Needles:
        """One is in each text, in lower case, that may hold a credential."""
        # Most texts have none of all these, and to ask for all of them at once costs
        # what it does for those of shapes alone. Not in `__init__`: 20 ms, once. And
        # without the lock of `cached_property`, which a fork may find taken.
        if self._all is None:
            self._all = Needles(
                [
                    PEM,
                    *self._names.regexes,
                    *SCHEMES.regexes,
                    *LATE_NAMES.regexes,
                    *needles().regexes,
                ]
            )
        return self._all

    def may_be_in(
        self, text: str, names: AbstractSet[str | None] = frozenset()
    ) -> bool:
        """
        Tell whether a text, or one of the names, may hold a credential.

        Names that are without signs are harmless from then on, and not asked for again.
        """
        if names:
            names = names - self.harmless
            # Not by their truth: of a subclass of str that may be what it likes.
            text = "\n".join([text, *[one for one in names if one is not None]])
        if "\\" in text and (plain := unescaped(text)) != text:
            text = f"{text}\n{plain}"
        if self.needles.may_be_in(lower(text)):
            return True
        if names:
            self.remember(names)
        return False

    def remember(self, names: Iterable[str | None]) -> None:
        """Take these for harmless from now on."""
        if len(self.harmless) >= _KEPT_NAMES:
            self.harmless.clear()
        # Another class may say of itself that it is equal to anything.
        self.harmless.update(
            one
            for one in names
            if one is None or (type(one) is str and len(one) <= _MAX_NAME_CHARS)
        )


def unescaped(text: str) -> str:
    """Undo what JSON can write of ASCII letters and signs in two ways."""
    if not _ESCAPES.may_be_in(text):
        return text
    if r"\u00" in text:
        text = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)
    return text.replace(r"\/", "/")


def lower(text: str) -> str:
    """Return a text in lower case, of the same length."""
    if text.isascii():
        return text.lower()
    # The one letter that grows when it becomes small: places must stay.
    return text.replace("\u0130", "i").lower()
