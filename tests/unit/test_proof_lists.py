"""Digest lists: what they claim, and when they are written."""

from __future__ import annotations

import json
import shutil
import subprocess
from hashlib import sha256

import rfc8785
from tests.proving import TOPIC, Proven

from fleetwake.consumers.archive.proof.keys import KeyRing, make_key
from fleetwake.consumers.archive.proof.lists import DigestList, Place, lists_of
from fleetwake.consumers.signing import unseal
from fleetwake.consumers.stores import StoreUnavailableError

PLACE = Place(TOPIC, 0)


def lists(made: Proven) -> list[DigestList]:
    paths = [one.path for one in lists_of(made.digests, PLACE)]
    return [unseal(made.digests.read(one), DigestList).document for one in paths]


def told(made: Proven) -> list[tuple[int, int, list[int]]]:
    """Each list: from, to, and where its files begin."""
    return [
        (one.start_offset, one.next_offset, [file.start_offset for file in one.files])
        for one in lists(made)
    ]


def test_a_list_names_the_files_since_the_list_before_it(tmp_path):
    """And goes on where that one ended."""
    made = Proven(tmp_path)
    made.file(0, 3)
    made.file(0, 2)
    made.list(0)
    made.file(0, 4)
    made.list(0)

    assert [(0, 5, [0, 3]), (5, 9, [5])] == told(made)


def test_a_list_describes_its_files(tmp_path):
    """Hash, size, root, rows and range: as they were written."""
    made = Proven(tmp_path)
    path, footer, content = made.file(0, 3)
    made.list(0)
    (file,) = lists(made)[0].files

    assert (
        path,
        len(content),
        sha256(content).hexdigest(),
        footer.root,
        3,
        (0, 2),
        "",
    ) == (
        file.path,
        file.size,
        file.sha256,
        file.root,
        file.rows,
        (file.start_offset, file.end_offset),
        file.gap,
    )


def test_each_list_holds_the_digest_of_the_one_before_it(tmp_path):
    """Of its whole file, signature and all."""
    made = Proven(tmp_path)
    for _ in range(3):
        made.list(0)
    contents = [made.digests.read(PLACE.list(n)) for n in (1, 2)]

    assert [None, *(sha256(one).hexdigest() for one in contents)] == [
        one.previous for one in lists(made)
    ]


def test_silence_is_on_record(tmp_path):
    """A list without files says until when nothing came."""
    made = Proven(tmp_path)
    made.list(0, complete_ms=1_760_000_000_000)

    (found,) = lists(made)
    assert ((), "2025-10-09T08:53:20.000+00:00") == (found.files, found.complete_at)


def test_who_has_not_caught_up_claims_no_silence(tmp_path):
    """Nothing was read, so nothing can be said; files are listed all the same."""
    made = Proven(tmp_path)
    made.writer(0).write_if_due()
    assert [] == lists(made)

    made.file(0)
    made.writer(0).write_if_due()
    assert [None] == [one.complete_at for one in lists(made)]


def test_a_new_owner_takes_up_what_is_not_listed(tmp_path):
    """A crash between a file and its list leaves no file without one."""
    made = Proven(tmp_path)
    made.file(0, 3)
    made.list(0)
    made.file(0, 2)
    made.append(0, gap=4)
    reborn = Proven(tmp_path)
    reborn.next = made.next
    reborn.writer(0).open()
    reborn.list(0)

    assert [(0, 3, [0]), (3, 9, [3, 5])] == told(made)
    assert [] == made.verify().findings


def test_of_two_owners_one_writes_a_list_and_the_other_goes_on_behind_it(tmp_path):
    """A zombie can add nothing to the past."""
    made, zombie = Proven(tmp_path), Proven(tmp_path)
    made.file(0, 3)
    made.list(0)
    zombie.writer(0).open()
    made.file(0, 2)
    made.list(0)
    zombie.list(0)
    assert 2 == len(lists(made))
    made.file(0, 1)
    zombie.writer(0, interval_s=1e-9)
    zombie.list(0)

    assert [(0, 3, [0]), (3, 5, [3]), (5, 6, [5])] == told(made)
    assert [] == made.verify().findings


def test_a_list_is_written_when_its_time_has_come(tmp_path):
    """The first at once, the next after the interval, or so many files."""
    made = Proven(tmp_path)
    writer = made.writer(0, interval_s=3_600, max_files=2)
    writer.open()
    assert writer.is_due
    writer.complete(1_760_000_000_000)
    writer.write_if_due()
    assert not writer.is_due
    writer.appended(made.file(0))
    writer.write_if_due()
    assert 1 == len(lists(made))

    writer.appended(made.file(0))
    writer.write_if_due()
    assert [[], [0, 5]] == [one[2] for one in told(made)]


def test_a_list_claims_what_was_durable_before_its_files_were_looked_for(tmp_path):
    """What becomes durable meanwhile is the next one's to claim."""
    made = Proven(tmp_path)
    writer = made.writer(0)
    seen = made.archive.list

    class Meanwhile:
        def list(self, folder: str, *, after: str = ""):
            found = list(seen(folder, after=after))
            if not made.next:
                made.file(0)
                writer.complete(1_760_000_060_000)
            return iter(found)

    writer._archive = Meanwhile()
    writer.complete(1_760_000_000_000)
    writer.write_if_due()
    writer._archive = made.archive
    writer.write_if_due()

    assert [
        ([], "2025-10-09T08:53:20.000+00:00"),
        ([0], "2025-10-09T08:54:20.000+00:00"),
    ] == [
        ([file.start_offset for file in one.files], one.complete_at)
        for one in lists(made)
    ]


def test_files_without_a_list_are_remembered_as_many_as_a_list_holds(tmp_path):
    """While lists are late, memory is bounded: the others are read back."""
    made = Proven(tmp_path)
    writer = made.writer(0, max_files=2)
    for _ in range(5):
        writer.appended(made.file(0, 1))
    remembered = len(writer._known)
    for _ in range(3):
        made.list(0)

    assert 2 == remembered
    assert [[False, False], [True, True], [True]] == [
        [file.found for file in one.files] for one in lists(made)
    ]
    assert [] == made.verify().findings


def test_many_files_become_several_lists(tmp_path):
    """An archive that had no lists gets them step by step; none claims silence."""
    made = Proven(tmp_path)
    for _ in range(5):
        made.file(0, 1)
    writer = made.writer(0, max_files=2)
    for _ in range(3):
        writer.complete(1_760_000_000_000)
        writer.write_if_due()

    assert [[0, 1], [2, 3], [4]] == [one[2] for one in told(made)]
    assert [False, False, True] == [bool(one.complete_at) for one in lists(made)]


def test_a_list_names_the_newest_lists_of_the_other_partitions(tmp_path):
    """So that the end of one chain is held by the others."""
    made = Proven(tmp_path)
    made.list(1)
    made.list(2)
    made.list(0)

    assert [(1, 1), (2, 1)] == [
        (one.partition, one.number) for one in lists(made)[0].heads
    ]


def test_a_rotation_goes_on_in_the_same_chain(tmp_path):
    """From the next list on; verify trusts both keys."""
    made = Proven(tmp_path)
    made.file(0)
    made.list(0)
    second = make_key(
        KeyRing.load(made.keys), None, KeyRing.load(made.keys).private(None)
    )
    made.file(0)
    made.list(0)

    assert second.key_id == lists(made)[1].key_id
    assert [] == made.verify().findings


def test_a_store_that_fails_stops_no_archive(tmp_path, monkeypatch):
    """The next list makes up for it."""
    made = Proven(tmp_path)
    made.file(0)

    def away(*_: object) -> int:
        raise StoreUnavailableError("digests", "away")

    monkeypatch.setattr(made.digests, "put_if_absent", away)
    made.list(0)
    monkeypatch.undo()
    assert [] == lists(made)

    made.writer(0, interval_s=1e-9)
    made.list(0)
    assert [(0, 5, [0])] == told(made)


def test_an_archive_that_lacks_what_was_listed_gets_no_further_lists(tmp_path):
    """They would cover up the loss."""
    made = Proven(tmp_path)
    made.file(0)
    made.list(0)
    shutil.rmtree(tmp_path / "archive")
    again = Proven(tmp_path)
    again.writer(0).open()
    again.file(0, 2)
    again.list(0)

    assert 1 == len(lists(made))
    assert {"file.changed"} <= {one.kind for one in made.verify().findings}


def test_others_can_check_a_list_with_openssl(tmp_path):
    """The formats are those that everybody has: RFC 8785, Ed25519, SHA-256."""
    made = Proven(tmp_path)
    made.file(0)
    made.list(0)
    outer = json.loads(made.digests.read(PLACE.list(1)))
    key = KeyRing.load(made.keys).current
    (tmp_path / "key.der").write_bytes(
        bytes.fromhex("302a300506032b6570032100") + key.public.public_bytes_raw()
    )
    (tmp_path / "signature").write_bytes(bytes.fromhex(outer["signature"]))
    (tmp_path / "signed").write_bytes(rfc8785.dumps(outer["signed"]))
    checked = subprocess.run(
        [
            *("openssl", "pkeyutl", "-verify", "-rawin", "-pubin"),
            *("-keyform", "DER", "-inkey", "key.der"),
            *("-sigfile", "signature", "-in", "signed"),
        ],
        cwd=tmp_path,
        check=False,
        capture_output=True,
    )

    assert 0 == checked.returncode, checked.stderr
