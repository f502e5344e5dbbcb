"""Several embedded brokers as one cluster, for tests of what one broker cannot show."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleetwake.consumers.broker.launcher import EmbeddedKafka, new_cluster_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["EmbeddedCluster"]

_LEAVE_S = 3.0


class EmbeddedCluster:
    """
    Nodes 1, 2, 3 ... on loopback, each a broker and a controller.

    `ports` has a pair for each node: for clients, and for the controllers. With three
    nodes, topics have three replicas by default and need two of them in sync.
    """

    def __init__(
        self, data_dir: Path, ports: Sequence[tuple[int, int]], *, heap_mb: int = 512
    ) -> None:
        voters = {node_id: own for node_id, (_, own) in enumerate(ports, 1)}
        cluster_id = new_cluster_id()
        self.nodes = tuple(
            EmbeddedKafka(
                data_dir / f"node-{node_id}",
                port=port,
                heap_mb=heap_mb,
                node_id=node_id,
                voters=voters,
                cluster_id=cluster_id,
            )
            for node_id, (port, _) in enumerate(ports, 1)
        )

    @property
    def bootstrap_servers(self) -> str:
        """What clients connect to."""
        return ",".join(node.bootstrap_servers for node in self.nodes)

    async def start(self) -> None:
        """
        Start the nodes that do not run, and wait until each serves.

        Raises:
            BrokerError: one of them cannot start; then none runs.
        """
        starts = (node.start() for node in self.nodes)
        for failed in await asyncio.gather(*starts, return_exceptions=True):
            if failed is not None:
                self.kill()
                raise failed

    async def stop(self) -> None:
        """Stop all nodes; the last ones find no quorum to leave, and are killed."""
        stops = (node.stop(deadline_s=_LEAVE_S) for node in self.nodes)
        await asyncio.gather(*stops)

    def kill(self) -> None:
        """Kill all nodes at once. Their data stays."""
        for node in self.nodes:
            node.kill()
