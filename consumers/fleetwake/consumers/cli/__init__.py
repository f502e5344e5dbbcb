"""The command line. Commands import what they need when they run."""

from __future__ import annotations

from fleetwake.consumers.cli.app import app, main

__all__ = ["app", "main"]
