"""
Every version of a record reads every other: FULL_TRANSITIVE.

What was released is never edited. To change a record, edit its file in `avsc/` by
adding fields with defaults, and at a release copy it to `released/<record>/vN.avsc`.
"""

from __future__ import annotations

import itertools
import json
from importlib.resources import files
from io import BytesIO

import fastavro
import pytest
from fastavro.schema import fingerprint, to_parsing_canonical_form

from fleetwake.schemas.layout import plain_schema
from fleetwake.schemas.lookup import PackagedSchemas, Schema, current, released
from fleetwake.schemas.topics import MAX_RECORD_BYTES

SAMPLES = {"string": "é", "int": -1, "long": 2**40, "double": 0.5, "boolean": True}
RECORDS = sorted(current())


def versions(record):
    """All released versions of a record, and what we write now."""
    old = [one for one in released() if one.name == f"fleetwake.{record}"]
    return [*old, current()[record]]


def sample(schema):
    """A value of this type, none of it a default."""
    if isinstance(schema, list):
        return sample(next(branch for branch in schema if branch != "null"))
    if isinstance(schema, str):
        return SAMPLES[schema]
    if schema["type"] == "record":
        return {field["name"]: sample(field["type"]) for field in schema["fields"]}
    if schema["type"] == "map":
        return {"k": "v"}
    if schema["type"] == "array":
        return [sample(schema["items"])]
    return 1_790_000_000_000_000


def problems(old, new):
    """What makes `new` no successor of `old`."""
    was = {field["name"]: field for field in old["fields"]}
    now = {field["name"]: field for field in new["fields"]}
    yield from (f"{name} has no default" for name in now if "default" not in now[name])
    for name, field in was.items():
        if name not in now:
            yield f"{name} is gone"
        elif now[name]["type"] != field["type"]:
            yield f"{name} has another type"
        elif now[name]["default"] != field["default"]:
            yield f"{name} has another default"


@pytest.mark.parametrize("record", RECORDS)
def test_every_version_decodes_what_every_version_wrote(record):
    """All pairs, with real bytes; common fields keep their values."""
    plain = [plain_schema(schema.text) for schema in versions(record)]
    for writer, reader in itertools.product(plain, repeat=2):
        written, out = sample(writer), BytesIO()
        fastavro.schemaless_writer(out, fastavro.parse_schema(writer), written)
        out.seek(0)
        read = fastavro.schemaless_reader(
            out, fastavro.parse_schema(writer), fastavro.parse_schema(reader)
        )
        common = written.keys() & read.keys()

        assert {name: written[name] for name in common} == {
            name: read[name] for name in common
        }
        assert read.keys() == sample(reader).keys()


@pytest.mark.parametrize("record", RECORDS)
def test_every_version_is_a_successor_of_the_ones_before(record):
    """Fields are added with a default, and nothing else changes."""
    plain = [plain_schema(schema.text) for schema in versions(record)]

    for old, new in itertools.combinations(plain, 2):
        assert list(problems(old, new)) == []


@pytest.mark.parametrize("record", RECORDS)
def test_one_fingerprint_is_one_schema(record):
    """The fingerprint is blind to defaults and logical types, which must not change."""
    by_fingerprint = {}
    for schema in versions(record):
        plain = plain_schema(schema.text)

        assert plain == by_fingerprint.setdefault(schema.fingerprint, plain)


def test_no_two_released_versions_share_a_fingerprint():
    """A frame names exactly one of them."""
    fingerprints = [schema.fingerprint for schema in released()]

    assert len(fingerprints) == len(set(fingerprints))


def test_released_versions_are_numbered_without_a_gap():
    """v1, v2 ... for every record, none lost."""
    folders = list((files("fleetwake.schemas") / "released").iterdir())
    expected = [
        f"{name.name[:-5]}" for name in (files("fleetwake.schemas") / "avsc").iterdir()
    ]

    assert sorted(expected) == sorted(folder.name for folder in folders)
    for folder in folders:
        names = sorted(path.name for path in folder.iterdir())
        assert {f"v{n}.avsc" for n in range(1, len(names) + 1)} == set(names)


def test_all_versions_are_found_by_their_fingerprints():
    """An archive of years ago is read without a network."""
    lookup = PackagedSchemas()

    for schema in (*released(), *current().values()):
        assert schema.name == lookup.by_fingerprint(schema.fingerprint).name
    assert lookup.by_fingerprint(bytes(8)) is None
    assert lookup.by_id(1) is None


def test_a_schema_fits_in_a_record_of_the_schemas_topic():
    """Its text is published there as it stands."""
    assert max(len(one.text.encode()) for one in current().values()) < MAX_RECORD_BYTES


FIELD = {"name": "a", "type": "string", "default": ""}
NEW = {"name": "b", "type": ["null", "long"], "default": None}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([FIELD, NEW], []),
        ([NEW, FIELD], []),
        ([NEW], ["a is gone"]),
        ([FIELD, {"name": "b", "type": "long"}], ["b has no default"]),
        ([FIELD | {"type": ["null", "string"]}], ["a has another type"]),
        ([FIELD | {"default": "x"}], ["a has another default"]),
        ([FIELD | {"name": "A"}], ["a is gone"]),
    ],
)
def test_a_change_that_breaks_readers_is_found(fields, expected):
    """The check above can fail."""
    assert expected == list(problems({"fields": [FIELD]}, {"fields": fields}))


def test_a_fingerprint_is_that_of_the_whole_schema():
    """What we leave out when we read it is not part of the canonical form."""
    for schema in released():
        canonical = to_parsing_canonical_form(json.loads(schema.text))
        expected = fingerprint(canonical, "CRC-64-AVRO")

        assert expected == schema.fingerprint.hex()


def test_a_logical_type_changes_the_schema_but_not_its_fingerprint():
    """Why one fingerprint must be one schema."""
    record = {"type": "record", "name": "R", "fields": [FIELD]}
    time = {"type": "long", "logicalType": "timestamp-micros"}
    texts = [
        json.dumps(record | {"fields": [{"name": "t", "type": kind, "default": 0}]})
        for kind in ("long", time)
    ]

    assert Schema.parse(texts[0]).fingerprint == Schema.parse(texts[1]).fingerprint
    assert plain_schema(texts[0]) != plain_schema(texts[1])
