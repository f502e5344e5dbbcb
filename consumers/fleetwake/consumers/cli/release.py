"""`fleetwake release`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fleetwake.consumers.cli.command import command
from fleetwake.consumers.cli.exits import OK, say
from fleetwake.consumers.cli.order_options import By, Wait, say_no_verdict

if TYPE_CHECKING:
    from fleetwake.schemas.records import Verdict

__all__ = ["release"]


@command(
    "fleetwake release s-42",
    'fleetwake release s-42 --tool run_shell --reason "it has what it needs" --wait',
    exits={
        0: "the broker has it; with --wait: the session is free, or was",
        1: "there is no topic for commands yet",
        4: "the broker does not answer",
        75: "with --wait: no verdict in time, perhaps because no loops service runs",
    },
)
async def release(
    session: Annotated[str, typer.Argument(help="The session's id.")],
    *,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why.")
    ] = "released by hand",
    tool: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only what blocks this tool alone."),
    ] = None,
    by: By = None,
    wait: Wait = False,
) -> int:
    """
    Let a session go on, whoever blocked it.

    A loop that a rule has blocked does not block again; another loop of the same
    session does.
    """
    from fleetwake.consumers.cli.cluster import kafka_settings
    from fleetwake.consumers.cli.orders import (
        give,
        order,
        verdicts_now,
        wait_for_verdict,
    )

    kafka = kafka_settings()
    given = order("release", session, by=by, reason=reason, tool=tool)
    before = (await verdicts_now(kafka)).get(session) if wait else None
    await give(kafka, given)
    if not wait:
        say(f"The loops service will let session {session} go on.")
        return OK
    if before is None or not _holds(before, given.scope):
        say(f"Session {session} was not blocked.")
        return OK
    since = before.issued_at
    if await wait_for_verdict(
        kafka,
        session,
        lambda one: one.issued_at > since and not _holds(one, given.scope),
    ):
        say(f"Released: session {session}.")
        return OK
    return say_no_verdict()


def _holds(verdict: Verdict, scope: str) -> bool:
    from fleetwake.schemas.records import WARN

    return any(
        scope in ("session", one.scope.removeprefix(WARN)) for one in verdict.blocks
    )
