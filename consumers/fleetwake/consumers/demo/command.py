"""`fleetwake demo`: the options of the command line."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo"]


def demo(
    *,
    input_: Annotated[
        list[Path] | None,
        typer.Option(
            "--input",
            metavar="FILE",
            help="Publish these files instead: JSON lines of native events or of "
            "trajectories, plain or gzip. May be given more than once.",
        ),
    ] = None,
    exit_: Annotated[
        bool,
        typer.Option(
            "--exit", help="Exit at the end, also on a terminal, instead of staying up."
        ),
    ] = False,
    sessions: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=10, max=100_000, help="Size of the bundled fleet [400]."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Which bundled fleet [1]."),
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Where its data goes [`demo` in FLEETWAKE_HOME]."
        ),
    ] = None,
) -> None:
    """
    Show a fleet at work: Kafka, the services, alerts, SQL and metrics, in a minute.

    Starts a Kafka of its own, the services loops, archive and metrics, and the page,
    publishes a fleet of agents, and prints what came of it. Its data is kept apart
    from yours, and removed at the next start.

    What is published: `--input`, else the trajectories of ../shared/data/trajectories
    (FLEETWAKE_DEMO_TRAJECTORIES) where they are, else, or with --sessions or --seed,
    the bundled fleet. Recorded events are moved to now, with the attribute
    demo.shifted. Recordings of other systems' events come along.

    Exit codes: 0 all was shown, 1 failed, 2 usage or configuration (a port in use, a
    file that holds no events), 75 Kafka cannot be downloaded now, 130 interrupted.
    """
    from fleetwake.consumers.demo.inputs import TRAJECTORIES
    from fleetwake.consumers.demo.run import Options, run
    from fleetwake.consumers.home import home as default_home

    options = Options(
        home=(home or default_home() / "demo").absolute(),
        files=input_ or (),
        sessions=sessions,
        seed=seed,
        trajectories=Path(os.environ.get("FLEETWAKE_DEMO_TRAJECTORIES", TRAJECTORIES)),
        stay=sys.stdout.isatty() and not exit_,
    )
    sys.exit(asyncio.run(run(options)))
