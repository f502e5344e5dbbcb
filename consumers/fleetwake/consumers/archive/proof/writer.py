"""
Writes the digest lists of one partition.

What a list claims is read from the archive's store, never from memory: so it claims
nothing that is not durable, and a crash at any line costs nothing. The number of a
list is put if absent: of several writers of one partition one wins, and the others go
on behind it.
"""

from __future__ import annotations

import time
import weakref
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Final

import structlog

from fleetwake.consumers.archive import metrics
from fleetwake.consumers.archive.proof.describe import describe, listed
from fleetwake.consumers.archive.proof.lists import (
    DigestList,
    Head,
    Heads,
    ListedFile,
    Place,
    lists_of,
)
from fleetwake.consumers.signing import digest_of, seal, unseal
from fleetwake.consumers.stores import AlreadyStoredError, StoreError
from fleetwake.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from fleetwake.consumers.archive.chain import Appended
    from fleetwake.consumers.archive.proof.settings import DigestSettings
    from fleetwake.consumers.archive.proof.signer import Signer, Signing
    from fleetwake.consumers.archive.proof.thread import ListThread
    from fleetwake.consumers.stores import Store, Stored

__all__ = ["ListWriter"]

_log = structlog.get_logger("fleetwake.archive")

_TRY_AGAIN_S: Final = 30.0

_LATE_S: Final = 60.0
"""A list that is overdue for so long is told of."""


class ListWriter:
    """
    The digest lists of one partition.

    A failure to write a list never stops the archive: it is logged and counted, and
    the next list takes up what this one would have held. `open` and `write_if_due`
    block, and are for the thread of lists; the rest is for that of the partition.

    Args:
        archive: The store of the raw files.
        digests: The store of the lists.
        place: The partition.
        next_offset: Where its chain of files goes on.
        signer: Whose signature the lists have.
        heads: The newest lists of all partitions of this process.
        settings: How often.
        thread: Where lists are written.
    """

    def __init__(
        self,
        archive: Store,
        digests: Store,
        place: Place,
        *,
        next_offset: int,
        signer: Signer,
        heads: Heads,
        settings: DigestSettings,
        thread: ListThread,
    ) -> None:
        self._archive = archive
        self._digests = digests
        self._place = place
        self._first_offset = next_offset
        self._signer = signer
        self._heads = heads
        self._settings = settings
        self._thread = thread
        self._last: Head | None = None
        self._lock = Lock()
        self._known: dict[int, ListedFile] = {}
        self._complete_ms: int | None = None
        self._is_open = self._is_behind = False
        self._is_asked = self._is_told = False
        # When to try; and since when a list is wanted, however often that failed.
        self._due = self._wanted = time.monotonic()

    def open(self) -> None:
        """
        Find the newest list, and when the next one is due.

        No list is written for an archive that lacks what the last one claims.
        """
        with self._tolerant():
            self._open()

    def appended(self, file: Appended) -> None:
        """Note a file that was published, so that it need not be read again."""
        path, footer, content = file
        if len(self._known) >= self._settings.max_files:
            return  # lists are late; memory is bounded, and the file is in the store
        found = sha256(content).hexdigest()
        with self._lock:
            self._known[footer.start_offset] = listed(path, len(content), found, footer)
            if len(self._known) == self._settings.max_files:
                self._due = time.monotonic()

    def complete(self, now_ms: int) -> None:
        """Note that all that the topic had at a time is durable."""
        self._complete_ms = now_ms

    @property
    def is_due(self) -> bool:
        """Whether it is time for a list, and none is being written."""
        return not self._is_asked and time.monotonic() >= self._due

    @property
    def late_s(self) -> float:
        """For how long a list has been due, in seconds."""
        return max(0.0, time.monotonic() - self._wanted)

    def write_soon(self) -> None:
        """Have a list written, if one is due; tell of it if that takes long."""
        if self.is_due:
            self._is_asked = True
            self._thread.soon(weakref.WeakMethod(self.write_if_due))
        if not self._is_told and self.late_s > _LATE_S:
            self._is_told = True
            self._tell(_log.error, "digest_lists.late", self.late_s)

    def write_if_due(self) -> None:
        """Write a list, if it is time. What was processed is durable by now."""
        try:
            if time.monotonic() >= self._due:
                with self._tolerant():
                    self._write()
        finally:
            self._is_asked = False

    def _open(self) -> None:
        self._thread.check()
        last = self._find_last()
        self._is_behind = last is not None and self._lacks(last.next_offset)
        if last is None:
            self._due = time.monotonic()
        self._is_open = True

    def _write(self) -> None:
        if not self._is_open:
            self._open()
        if self._is_behind:
            raise StoreError(
                self._digests.url_of(self._place.lists),
                f"they list what {self._archive.url} lacks, from offset "
                f"{self._first_offset} on: run `fleetwake archive verify`; for another "
                "archive set FLEETWAKE_DIGESTS_FOLDER to another folder",
            )
        last = self._last or self._find_last()
        after = last.next_offset if last else 0
        limit = self._settings.max_files
        # Before the files are looked for: what is durable later may not be among them.
        complete_ms = self._complete_ms
        files = list(islice(self._unlisted(after), limit))
        if not files and complete_ms is None:
            # It is behind: there will be a file, or silence, soon.
            self._wanted = self._due
            return
        # More files than fit into this list: it does not cover all yet.
        until = complete_ms if len(files) < limit else None
        signing = self._signer.now()
        made = self._make(last, files, until, signing)
        content = seal(made, signing.key)
        try:
            self._digests.put_if_absent(self._place.list(made.number), content)
        except AlreadyStoredError:
            # Another owner; or the answer to our own put was lost.
            self._last = None
            return
        metrics.LISTS.inc()
        self._note(made, content)
        if self._complete_ms == complete_ms:
            self._complete_ms = None
        if len(files) == limit:
            self._due = time.monotonic()

    def _make(
        self,
        last: Head | None,
        files: list[ListedFile],
        complete_ms: int | None,
        signing: Signing,
    ) -> DigestList:
        start = last.next_offset if last else self._first_offset
        if last is None and files:
            start = files[0].start_offset
        return DigestList(
            topic=self._place.topic,
            partition=self._place.partition,
            number=last.number + 1 if last else 1,
            previous=last.sha256 if last else None,
            start_offset=start,
            next_offset=files[-1].end_offset + 1 if files else start,
            complete_at=None if complete_ms is None else _iso(complete_ms / 1000),
            files=tuple(files),
            heads=self._heads.others(self._place),
            created_at=_iso(time.time()),
            writer=version("fleetwake"),
            key_id=signing.key_id,
        )

    def _unlisted(self, start: int) -> Iterator[ListedFile]:
        for path, size in self._after(start):
            name = path.rpartition("/")[2].removesuffix(".parquet")
            if not name.isdecimal():
                continue
            known = self._known.get(int(name))
            yield known or self._described(path, size)

    def _after(self, start: int) -> Iterator[Stored]:
        after = self._place.file(start - 1) if start else ""
        return self._archive.list(self._place.files, after=after)

    def _lacks(self, end: int) -> bool:
        """Whether the archive ends before an offset."""
        if end <= self._first_offset:
            return False
        # Another owner may have gone on.
        newest = max(self._after(self._first_offset), default=None)
        return newest is None or self._described(*newest).end_offset < end - 1

    def _described(self, path: str, size: int) -> ListedFile:
        try:
            return describe(self._archive, path, size)
        except (OSError, ValueError, KeyError) as exc:
            raise StoreError(
                self._archive.url_of(path), f"it is no raw file ({exc})"
            ) from exc

    def _find_last(self) -> Head | None:
        newest = max(lists_of(self._digests, self._place), default=None)
        if newest is None:
            return None
        content = self._digests.read(newest.path)
        try:
            sealed = unseal(content, DigestList)
        except ValueError as exc:
            raise StoreError(self._digests.url_of(newest.path), str(exc)) from exc
        last: DigestList = sealed.document
        key = self._signer.now().ring.find(last.key_id)
        if key is None or not sealed.is_signed_by(key.public):
            raise ConfigurationError(
                f"{self._digests.url_of(newest.path)} is not signed by a key of ours "
                f"but by {last.key_id}: restore that key's folder "
                "(FLEETWAKE_KEYS_FOLDER), or run `fleetwake archive verify`"
            )
        return self._note(last, content)

    def _note(self, last: DigestList, content: bytes) -> Head:
        """Go on behind a list that is in the store."""
        head = Head(
            topic=last.topic,
            partition=last.partition,
            number=last.number,
            sha256=digest_of(content),
            next_offset=last.next_offset,
        )
        self._last = head
        self._heads.note(head)
        with self._lock:
            known = self._known.items()
            self._known = {at: one for at, one in known if at >= last.next_offset}
        written = datetime.fromisoformat(last.created_at).timestamp()
        # A clock that was set back must not stop the lists.
        age = min(max(0.0, time.time() - written), self._settings.interval_s)
        late_s = self.late_s
        self._due = self._wanted = time.monotonic() + self._settings.interval_s - age
        if self._is_told:
            self._is_told = False
            self._tell(_log.warning, "digest_lists.resumed", late_s)
        return head

    def _tell(self, log: Callable[..., object], what: str, late_s: float) -> None:
        log(
            what,
            topic=self._place.topic,
            partition=self._place.partition,
            store=self._digests.url,
            since=_iso(time.time() - late_s),
            seconds=round(late_s),
        )

    @contextmanager
    def _tolerant(self) -> Generator[None]:
        self._due = time.monotonic() + min(_TRY_AGAIN_S, self._settings.interval_s)
        try:
            yield
        except (StoreError, ConfigurationError, OSError) as exc:
            self._last = None
            metrics.LIST_FAILURES.inc()
            _log.error(
                "digest_list.failed",
                topic=self._place.topic,
                partition=self._place.partition,
                error=str(exc),
            )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
