"""
What was told of each run before: several kinds of events tell one fact.

A tool's call is told as tool_call_started and as the named event tool_call, a run's
end as agent_finished and as agent_call_finished. Which of them come depends on the
host; the one that comes first is the fact, and those after it are second views.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Literal, TypeAlias

__all__ = ["Call", "Run", "Runs", "View"]

View: TypeAlias = Literal["runtime", "named"]

_MAX_RUNS: Final = 4096
_MAX_CALLS: Final = 64
"""Of one run at a time. What is forgotten is told as new if it comes again."""


class Call:
    """A call of a tool, and the views of it that there were."""

    __slots__ = ("begun", "ended", "span_id", "started_at", "tool")

    def __init__(self, tool: str | None, span_id: str | None, at: int | None) -> None:
        self.tool = tool
        self.span_id = span_id
        self.started_at = at
        self.begun: set[View] = set()
        self.ended: set[View] = set()


class Run:
    """One run of one agent."""

    __slots__ = (
        "agent_id",
        "caller",
        "calls",
        "ended",
        "is_child",
        "model_failed",
        "requested_at",
        "started",
        "started_at",
    )

    def __init__(self) -> None:
        self.agent_id: str | None = None
        self.started: set[str] = set()
        self.started_at: int | None = None
        self.ended = False
        self.caller: str | None = None
        self.is_child = False
        """Another agent called it, not the host."""
        self.requested_at: int | None = None
        """When the model was asked, and has not answered yet."""
        self.model_failed = False
        """The model's last answer was a failure that has been told."""
        self.calls: list[Call] = []

    def begin_call(
        self, view: View, tool: str | None, span_id: str | None, at: int
    ) -> tuple[Call, bool]:
        """Return the call, and whether this is the first that is told of it."""
        for call in self._calls_of(tool, span_id):
            if not call.ended and view not in call.begun:
                call.span_id = call.span_id or span_id
                call.begun.add(view)
                return call, False
        call = Call(tool, span_id, at)
        call.begun.add(view)
        self._keep(call)
        return call, True

    def end_call(
        self, view: View, tool: str | None, span_id: str | None
    ) -> tuple[Call, bool]:
        """Return the call, and whether this is the first that is told of its end."""
        for call in self._calls_of(tool, span_id):
            if view not in call.ended:
                is_first = not call.ended
                call.ended.add(view)
                if not is_first:
                    self.calls.remove(call)
                return call, is_first
        call = Call(tool, span_id, None)
        call.ended.add(view)
        self._keep(call)
        return call, True

    def _calls_of(self, tool: str | None, span_id: str | None) -> list[Call]:
        # The latest first: a call that a hook has vetoed stays open for ever.
        return [
            call
            for call in reversed(self.calls)
            if call.tool == tool
            and (span_id == call.span_id or None in (span_id, call.span_id))
        ]

    def _keep(self, call: Call) -> None:
        # What has ended and is told of anew will not be told of any more.
        calls = [one for one in self.calls if one.tool != call.tool or not one.ended]
        self.calls = [*calls[1 - _MAX_CALLS :], call]


class Runs:
    """The runs of a stream, the latest ones. All without an id are one."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, Run] = OrderedDict()

    def get(self, run_id: str | None) -> Run:
        """Return a run, a new one if it is not known."""
        run = self._runs.get(run_id or "")
        if run is None:
            return self._new(run_id)
        self._runs.move_to_end(run_id or "")
        return run

    def start(self, run_id: str | None, view: str, at: int) -> tuple[Run, bool]:
        """
        Return the run, and whether this is the first that is told of its start.

        An agent that is called again has the same run id as before: a start that was
        told in this way already, or that comes after the end, is another run's.
        """
        run = self.get(run_id)
        if run.ended or view in run.started:
            run = self._new(run_id)
        is_first = not run.started
        run.started.add(view)
        if is_first and run_id:
            run.started_at = at
        return run, is_first

    def _new(self, run_id: str | None) -> Run:
        run = self._runs[run_id or ""] = Run()
        self._runs.move_to_end(run_id or "")
        if len(self._runs) > _MAX_RUNS:
            self._runs.popitem(last=False)
        return run
