"""The Merkle tree hash over a file's rows."""

from __future__ import annotations

from hashlib import sha256

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetwake.consumers.archive.proof.merkle import Tree, column_root, fold, root

# The entries and roots that certificate transparency's own tests use.
ENTRIES = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]

digests = st.lists(st.binary(min_size=32, max_size=32), max_size=70)


def recursive(entries: list[bytes]) -> bytes:
    """Compute it as RFC 6962, section 2.1, has it."""
    if not entries:
        return sha256().digest()
    if len(entries) == 1:
        return sha256(b"\x00" + entries[0]).digest()
    split = 1 << (len(entries) - 1).bit_length() - 1
    left, right = recursive(entries[:split]), recursive(entries[split:])
    return sha256(b"\x01" + left + right).digest()


@pytest.mark.parametrize("count", range(len(ROOTS)))
def test_roots_are_those_of_certificate_transparency(count):
    """Tools of other makers compute the same."""
    entries = [bytes.fromhex(one) for one in ENTRIES[:count]]
    leaves = b"".join(sha256(b"\x00" + one).digest() for one in entries)

    assert ROOTS[count] == fold(leaves).hex()


@settings(max_examples=60, deadline=None)
@given(digests)
def test_a_root_is_what_the_rfc_defines(entries):
    """For any count, also those that are no power of two."""
    assert recursive(entries) == root(b"".join(entries))


@settings(max_examples=60, deadline=None)
@given(st.lists(digests, max_size=5))
def test_a_tree_that_grows_has_the_root_of_all(parts):
    """However many digests come at a time, and after each of them."""
    tree, entries = Tree(), b""
    for part in parts:
        tree.add(b"".join(part))
        entries += b"".join(part)
        assert root(entries) == tree.root()

    assert root(entries) == tree.root()


@settings(max_examples=30, deadline=None)
@given(digests, st.integers(0, 70), st.integers(0, 70))
def test_a_column_has_the_root_of_its_values(entries, cut, skip):
    """However Arrow has cut it into chunks, and wherever a chunk begins."""
    column = pa.array(entries, pa.binary(32))
    chunks = [column.slice(skip)[:cut], column.slice(skip)[cut:]]

    assert root(b"".join(entries[skip:])) == column_root(
        pa.chunked_array(chunks, pa.binary(32))
    )


def test_a_piece_of_a_digest_is_refused():
    """It would be another tree."""
    with pytest.raises(ValueError, match="33 bytes"):
        root(bytes(33))
