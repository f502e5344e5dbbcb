"""Writes bookmarks when what they claim is true."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from fleetwake.consumers.ingest.run import GIVEN_UP

if TYPE_CHECKING:
    from fleetwake.consumers.ingest.bookmark import Bookmark, Place
    from fleetwake.producer import AuditProducer

__all__ = ["Keeper"]


class Keeper:
    """
    A thread that waits for Kafka's acknowledgement and then writes the bookmark.

    It never claims what was dropped: from the first drop on that another attempt could
    mend, nothing is written. The reader goes on meanwhile.
    """

    def __init__(self, producer: AuditProducer, timeout_s: float) -> None:
        self._producer = producer
        self._timeout_s = timeout_s
        self._offered: dict[Bookmark, Place] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._is_over = False
        self.problem: str | None = None
        """Why a bookmark could not be written."""
        self._thread = threading.Thread(target=self._work, name="bookmarks")
        self._thread.daemon = True
        self._thread.start()

    def offer(self, bookmark: Bookmark, place: Place) -> None:
        """Have a place written when all that was emitted before is acknowledged."""
        with self._lock:
            self._offered[bookmark] = place
        self._wake.set()

    def close(self, *, is_delivered: bool) -> None:
        """End the thread; write what is offered if all of it was delivered."""
        self._is_over = True
        self._wake.set()
        self._thread.join(self._timeout_s)
        if is_delivered and not self._thread.is_alive():
            self._write(self._take())

    def _work(self) -> None:
        while self._wake.wait() and not self._is_over:
            self._wake.clear()
            offered = self._take()
            if self._producer.flush(self._timeout_s):
                self._write(offered)
            else:
                self._give_back(offered)

    def _take(self) -> dict[Bookmark, Place]:
        with self._lock:
            offered, self._offered = self._offered, {}
            return offered

    def _give_back(self, offered: dict[Bookmark, Place]) -> None:
        with self._lock:
            self._offered = offered | self._offered

    def _write(self, offered: dict[Bookmark, Place]) -> None:
        if self._producer.statistics().dropped.keys() - GIVEN_UP:
            return
        for bookmark, place in offered.items():
            try:
                bookmark.write(place)
            except OSError as error:
                self.problem = str(error)
