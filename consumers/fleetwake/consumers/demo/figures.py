"""
What real sessions look like, in numbers.

Measured once over public trajectories, all under the MIT licence; no text of theirs is
kept here. Sessions that hold three equal calls with equal answers in a row (549 of
3,243) are left out: loops are planted, not drawn.

    SHELL   princeton-nlp/intercode @c3e46d8, bash and ctf: 1,238 sessions of 1,699
    PYTHON  princeton-nlp/intercode @c3e46d8, python: 182 sessions of 236
    SEARCH  noahshinn/reflexion @218cf0e, hotpotqa: 1,072 sessions of 1,105
    CODING  SWE-agent/SWE-agent @3ea751c, demonstrations: 20 sessions of 21
    DESK    sierra-research/tau-bench @59a200c, airline: 182 sessions

The names of the tools are ours, in the shares of theirs. Durations, prices
and waiting times are not in the data: those in `fleet.py` and `session.py` are our own
choice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

__all__ = ["CODING", "DESK", "PYTHON", "SEARCH", "SHELL", "Quantiles", "Work"]

_SHARES = (0.0, 0.10, 0.25, 0.50, 0.75, 0.90, 0.99)


class Quantiles(NamedTuple):
    """A distribution by its least value and its 10 to 99 % quantiles."""

    least: int
    p10: int
    p25: int
    p50: int
    p75: int
    p90: int
    p99: int

    def draw(self, random: Random) -> int:
        """A value, linear between the quantiles and never above the last."""
        share = random.random()
        for low, high, start, end in zip(
            _SHARES, _SHARES[1:], self, self[1:], strict=False
        ):
            if share < high:
                return round(start + (end - start) * (share - low) / (high - low))
        return self.p99


class Work(NamedTuple):
    """One kind of work. Sizes in characters, shares of all calls."""

    tools: Mapping[str, float]
    user_inputs: Quantiles
    calls: Quantiles
    arguments_chars: Quantiles
    result_chars: Quantiles
    error_chars: Quantiles
    error_share: float
    repeat_share: float


_ONE = Quantiles(1, 1, 1, 1, 1, 1, 1)

SHELL: Final = Work(
    tools={"shell": 1.0},
    user_inputs=_ONE,
    calls=Quantiles(1, 1, 1, 3, 10, 10, 10),
    arguments_chars=Quantiles(15, 30, 51, 75, 110, 162, 492),
    result_chars=Quantiles(0, 0, 0, 6, 57, 317, 2_331),
    error_chars=Quantiles(0, 17, 43, 79, 129, 232, 2_929),
    error_share=0.381,
    repeat_share=0.034,
)
PYTHON: Final = Work(
    tools={"run_python": 1.0},
    user_inputs=_ONE,
    calls=Quantiles(1, 1, 1, 1, 5, 7, 7),
    arguments_chars=Quantiles(50, 85, 126, 173, 253, 356, 519),
    result_chars=Quantiles(27, 27, 27, 41, 41, 41, 174),
    error_chars=Quantiles(58, 58, 58, 58, 58, 58, 58),
    error_share=0.002,
    repeat_share=0.012,
)
SEARCH: Final = Work(
    tools={"search": 0.70, "finish": 0.24, "look_up": 0.06},
    user_inputs=_ONE,
    calls=Quantiles(2, 3, 3, 3, 4, 6, 6),
    arguments_chars=Quantiles(14, 20, 24, 29, 38, 51, 151),
    result_chars=Quantiles(10, 17, 19, 277, 718, 1_643, 3_682),
    error_chars=Quantiles(87, 87, 87, 87, 87, 87, 87),
    error_share=0.001,
    repeat_share=0.006,
)
CODING: Final = Work(
    tools={
        "run_command": 0.39,
        "edit_file": 0.21,
        "run_tests": 0.14,
        "read_file": 0.13,
        "create_file": 0.08,
        "find_file": 0.05,
    },
    user_inputs=_ONE,
    calls=Quantiles(4, 5, 7, 11, 13, 18, 21),
    arguments_chars=Quantiles(20, 21, 33, 44, 111, 251, 588),
    result_chars=Quantiles(0, 3, 71, 315, 900, 4_117, 7_917),
    error_chars=Quantiles(20, 20, 1_177, 1_873, 2_689, 8_978, 8_989),
    error_share=0.089,
    repeat_share=0.005,
)
DESK: Final = Work(
    tools={
        "get_order": 0.32,
        "search_shipments": 0.16,
        "get_customer": 0.10,
        "change_delivery": 0.09,
        "calculate": 0.08,
        "think": 0.08,
        "cancel_order": 0.06,
        "ask_colleague": 0.06,
        "place_order": 0.05,
    },
    user_inputs=Quantiles(3, 4, 5, 7, 8, 11, 22),
    calls=Quantiles(1, 2, 2, 6, 9, 13, 23),
    arguments_chars=Quantiles(2, 28, 28, 32, 147, 300, 590),
    result_chars=Quantiles(0, 2, 80, 682, 829, 965, 4_723),
    error_chars=Quantiles(31, 38, 40, 53, 71, 72, 73),
    error_share=0.06,
    repeat_share=0.004,
)
