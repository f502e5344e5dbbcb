"""What one partition spends of each budget, told to the owners of the budgets."""
# pyright: basic, reportAttributeAccessIssue=false

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid5

import numpy as np
from prometheus_client import Counter as Metric

from fleetwake.consumers.metrics.columns import Columns
from fleetwake.consumers.runtime.service import OutRecord
from fleetwake.schemas.codec import encode_record
from fleetwake.schemas.records import Signal
from fleetwake.schemas.topics import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fleetwake.consumers.metrics.budgets import Budget
    from fleetwake.consumers.metrics.prices import Price
    from fleetwake.consumers.runtime.service import EventBatch

__all__ = ["SPENT", "Spending", "key_of"]

SPENT: Final = "budget"
"""The kind of these signals."""

_NAMESPACE: Final = UUID("5d0c7e0e-6f5b-5c3a-8e5f-2f8a0c1d7b44")
"""Of the ids of these signals. Never change it."""

_MAX_NAMES: Final = 1000
"""Of one budget in one slot."""

_COLUMNS: Final = {"agent": "agent_id", "team": "team", "tool": "tool_name"}

DROPPED = Metric(
    "fleetwake_budget_events_dropped_total",
    "Events that a budget does not count, because a slot has too many names of it.",
)


@dataclass(slots=True)
class _Slot:
    """The sums of one budget and key in the open slot: nano dollars, tokens, calls."""

    amount: int = 0
    calls: int = 0
    applied_through: int = -1
    is_told: bool = True


class _Clock:
    """The open slot of one length. Slots only go forward, as the broker's clock."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.number = -1
        self.first_offset = -1
        self.told_ms = 0
        self.slots: dict[tuple[str, str], _Slot] = {}
        self.names: Counter[str] = Counter()
        self.closed: list[Signal] = []

    def is_time(self, now_ms: int) -> bool:
        """Tell whether to tell what is open: twice in a slot."""
        # A wall clock may have been ahead.
        return abs(now_ms - self.told_ms) >= self.length * 500


class Spending:
    """
    The open slots of a partition, built again from the offset that `needed` says.

    A slot is of the broker's append time. Its sums are told as they are, never as
    differences, with the offset that they are applied through.
    """

    def __init__(self, partition: int, prices: Mapping[str, Price]) -> None:
        self._partition = partition
        self._prices = prices
        self._clocks: dict[int, _Clock] = {}

    def needed(self, next_offset: int) -> int:
        """Return the offset from which on the open slots can be built again."""
        firsts = [one.first_offset for one in self._clocks.values()]
        return min([one for one in firsts if one >= 0], default=next_offset)

    def add(self, batch: EventBatch, budgets: Mapping[str, Budget]) -> None:
        """Add a batch of events; call it with every batch, in order."""
        events = batch.events
        lengths = {one.slot_s for one in budgets.values()}
        for gone in self._clocks.keys() - lengths:
            del self._clocks[gone]
        if not lengths or events is None or not events.num_rows:
            return
        offset, appended_ms = batch.positions()
        columns = Columns.of(events, offset, appended_ms * 1000)
        sums = columns.sums(self._prices)
        for length in sorted(lengths):
            clock = self._clocks.setdefault(length, _Clock(length))
            own = [one for one in budgets.values() if one.slot_s == length]
            slot = appended_ms // 1000 // length
            self._add(clock, own, columns, sums, slot)
            if batch.replayed:
                # A slot that a replay closes was told before the commit.
                clock.closed.clear()

    def is_due(self, now_ms: int) -> bool:
        """Tell whether `signals` has something to say."""
        return any(
            clock.closed
            or (
                clock.is_time(now_ms)
                and any(not one.is_told for one in clock.slots.values())
            )
            for clock in self._clocks.values()
        )

    def signals(self, now_ms: int) -> list[OutRecord]:
        """Return what is to be published now; `told` says that it was."""
        records = []
        for clock in self._clocks.values():
            found = list(clock.closed)
            if clock.is_time(now_ms):
                found += self._open(clock)
            records += [
                OutRecord(SIGNALS, one.key.encode(), encode_record(one))
                for one in found
            ]
        return records

    def told(self, now_ms: int) -> None:
        """Note that the brokers have what `signals` returned."""
        for clock in self._clocks.values():
            clock.closed.clear()
            if clock.is_time(now_ms):
                clock.told_ms = now_ms
                for one in clock.slots.values():
                    one.is_told = True

    def _add(
        self,
        clock: _Clock,
        budgets: list[Budget],
        columns: Columns,
        sums: Mapping[str, np.ndarray],
        slot: np.ndarray,
    ) -> None:
        slot = np.maximum.accumulate(np.maximum(slot, clock.number))
        cuts = [0, *(np.flatnonzero(np.diff(slot)) + 1).tolist(), len(slot)]
        for first, end in pairwise(cuts):
            if int(slot[first]) > clock.number:
                self._close(clock)
                clock.number = int(slot[first])
            if clock.first_offset < 0:
                clock.first_offset = int(columns.offset[first])
            for budget in budgets:
                _add_budget(clock, budget, columns, sums, slice(first, end))

    def _close(self, clock: _Clock) -> None:
        clock.closed += self._open(clock)
        clock.slots.clear()
        clock.names.clear()
        clock.first_offset = -1

    def _open(self, clock: _Clock) -> Iterator[Signal]:
        start_us = clock.number * clock.length * 1_000_000
        for (budget, name), slot in clock.slots.items():
            if slot.is_told:
                continue
            key = key_of(budget, name)
            identity = f"{key}|{start_us}|{self._partition}"
            yield Signal(
                signal_id=str(uuid5(_NAMESPACE, identity)),
                kind=SPENT,
                key=key,
                session_id="",
                occurred_at=start_us,
                amount=float(slot.amount),
                source_partition=self._partition,
                attributes={
                    "budget": budget,
                    "name": name,
                    "calls": str(slot.calls),
                    "applied_through": str(slot.applied_through),
                },
            )


def key_of(budget: str, name: str) -> str:
    """Make the key of the signals topic: all of a budget and name in one partition."""
    return f"{budget}\x1f{name}"


def _add_budget(
    clock: _Clock,
    budget: Budget,
    columns: Columns,
    sums: Mapping[str, np.ndarray],
    rows: slice,
) -> None:
    amount, calls = _measured(budget, sums)
    if amount is None:
        return
    named = columns.dimension(_COLUMNS[budget.per])
    codes, amounts = named.codes[rows], amount[rows]
    called = calls[rows] if calls is not None else np.zeros_like(amounts)
    counts = np.flatnonzero((amounts != 0) | (called != 0))
    for code in np.unique(codes[counts]).tolist():
        name = named.names[code]
        if not name or not budget.admits(name):
            continue
        key = budget.identity, name
        own = counts[codes[counts] == code]
        if key not in clock.slots:
            if clock.names[budget.identity] >= _MAX_NAMES:
                DROPPED.inc(len(own))
                continue
            clock.names[budget.identity] += 1
        slot = clock.slots.setdefault(key, _Slot())
        slot.amount += int(amounts[own].sum())
        slot.calls += int(called[own].sum())
        slot.applied_through = int(columns.offset[rows][own[-1]])
        slot.is_told = False


def _measured(
    budget: Budget, sums: Mapping[str, np.ndarray]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return what each event adds: the amount, and for a rate what it is of."""
    if budget.measure == "cost_usd":
        return sums.get("cost_nano_usd"), None
    if budget.measure == "tokens":
        spent = [sums[one] for one in ("input_tokens", "output_tokens") if one in sums]
        return (sum(spent[1:], spent[0]) if spent else None), None
    calls = sums.get("calls")
    if calls is None:
        return None, None
    failures = sums.get("failures", np.zeros_like(calls))
    return np.where(calls > 0, failures, 0), calls
