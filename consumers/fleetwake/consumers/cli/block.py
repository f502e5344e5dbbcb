"""`fleetwake block`."""

from __future__ import annotations

from typing import Annotated

import typer

from fleetwake.consumers.cli.command import command
from fleetwake.consumers.cli.exits import OK, say
from fleetwake.consumers.cli.order_options import By, Wait, say_no_verdict

__all__ = ["block"]


@command(
    'fleetwake block s-42 --reason "deletes the wrong tables"',
    'fleetwake block s-42 --tool run_shell --until 2h --reason "let it read only"',
    exits={
        0: "the broker has it; with --wait: the session is blocked",
        1: "there is no topic for commands yet",
        2: "--reason is missing, or --until is no duration",
        4: "the broker does not answer",
        75: "with --wait: no verdict in time, perhaps because no loops service runs",
    },
)
async def block(
    session: Annotated[str, typer.Argument(help="The session's id.")],
    *,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why: the agent is told.")
    ],
    tool: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only calls of this tool.")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="For so long: 90s, 45m, 2h, 1d."),
    ] = None,
    by: By = None,
    wait: Wait = False,
) -> int:
    """
    Stop a session: its guard lets no more calls pass.

    It holds until --until or `fleetwake release`. An agent without a guard runs on; if
    it does, an alert blocked_running says so.
    """
    from fleetwake.consumers.cli.cluster import kafka_settings
    from fleetwake.consumers.cli.orders import (
        ends_at,
        give,
        order,
        wait_for_verdict,
    )

    kafka = kafka_settings()
    given = order(
        "block", session, by=by, reason=reason, tool=tool, until=ends_at(until)
    )
    await give(kafka, given)
    what = f"session {session}" if tool is None else f"{tool} in session {session}"
    if not wait:
        say(f"The loops service will block {what}; see it with `fleetwake verdicts`.")
        return OK
    if await wait_for_verdict(
        kafka,
        session,
        lambda one: any(it.command_id == given.command_id for it in one.blocks),
    ):
        say(f"Blocked: {what}. Let it go with: fleetwake release {session}")
        return OK
    return say_no_verdict()
