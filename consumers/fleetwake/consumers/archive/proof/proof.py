"""What the archive needs to sign what it writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetwake.consumers.archive.proof.lists import Heads, Place
from fleetwake.consumers.archive.proof.signer import Signer
from fleetwake.consumers.archive.proof.thread import ListThread
from fleetwake.consumers.archive.proof.writer import ListWriter
from fleetwake.consumers.stores import StoreRefusedError, open_store
from fleetwake.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from fleetwake.consumers.archive.proof.keys import KeySettings
    from fleetwake.consumers.archive.proof.settings import DigestSettings
    from fleetwake.consumers.stores import Store

__all__ = ["Proof"]


class Proof:
    """
    Makes the list writer of each partition, and the thread of all of them.

    Raises:
        ConfigurationError: the store of the lists cannot be used.
    """

    def __init__(self, digests: DigestSettings, keys: KeySettings) -> None:
        self._settings = digests
        self._store = open_store(digests.folder)
        self._signer = Signer(keys)
        self._heads = Heads()
        self._thread = ListThread(self._check)

    def check(self) -> None:
        """
        Find out whether lists can be signed and written. Blocks, 5 s at most.

        A store that fails now or does not answer is asked again before the first list.

        Raises:
            ConfigurationError: there is no key, or the store refuses.
        """
        self._thread.check_soon()

    async def close(self) -> None:
        """Wait for the lists that are being written, 5 s at most."""
        await self._thread.close()

    def _check(self) -> None:
        self._signer.now()
        try:
            self._store.check()
        except StoreRefusedError as exc:
            raise ConfigurationError(
                f"digest lists cannot be written ({exc}): set "
                "FLEETWAKE_DIGESTS_FOLDER to a place where they can"
            ) from exc

    def writer(self, archive: Store, place: Place, next_offset: int) -> ListWriter:
        """Make the writer of a partition whose chain of files goes on at an offset."""
        writer = ListWriter(
            archive,
            self._store,
            place,
            next_offset=next_offset,
            signer=self._signer,
            heads=self._heads,
            settings=self._settings,
            thread=self._thread,
        )
        self._thread.add(writer)
        return writer
