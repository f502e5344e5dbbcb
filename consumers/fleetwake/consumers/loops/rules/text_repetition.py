"""
A message that repeats itself: one phrase, in a row, until the model's output ends.

One message is enough to warn, and no number of them is critical: it ends by itself.
A phrase of at most 64 words stands 8 times in a row and fills 200 bytes (gemini-cli and
qwen-code: a chunk of 50 characters, 10 times). All that is known here is how often:
`fleetwake.schemas.repetition` counts where the text is, and leaves out code, tables,
lists and rules, which repeat for good.

Not caught: a phrase that varies, what lies beyond the first 8,192 bytes, and messages
whose source tells no text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetwake.consumers.loops.rows import MESSAGE, Row
from fleetwake.consumers.loops.rules.rule import Findings, Level, Rule

if TYPE_CHECKING:
    from fleetwake.consumers.loops.calls import Call

__all__ = ["TextRepetition"]


class TextRepetition(Rule):
    """See the module's docstring. An episode lasts until something else is said."""

    __slots__ = ()

    name = "text_repetition"
    version = 1

    def called(self, call: Call) -> Findings:
        """Resolve: the agent does something."""
        self.needed = call.cut
        return self._resolve() if self._episode else ()

    def heard(self, row: Row) -> Findings:
        """Look at how often the message's phrase stands in a row."""
        if row.kind != MESSAGE or not row.text_repeats:
            return super().heard(row)
        if not self.limit.level(row.text_repeats):
            return self._resolve()
        return self._raise(
            Level.WARNING,
            row,
            row.text_repeats,
            f"a message repeats one phrase {row.text_repeats} times in a row",
            preview=False,
        )
