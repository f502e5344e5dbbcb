"""`python -m fleetwake.consumers.cli`: the same as `fleetwake`."""

from __future__ import annotations

from fleetwake.consumers.cli.app import main

if __name__ == "__main__":
    main()
