"""Text that any codec can hold."""

from __future__ import annotations

__all__ = ["well_formed"]


def well_formed(text: str) -> str:
    """
    Return `text` with each lone surrogate replaced by U+FFFD.

    No codec can hold one, and JSON from the wild has them. Two that make a pair become
    the character that they stand for, as in UTF-16.
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
