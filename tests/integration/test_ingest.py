"""`fleetwake ingest` against a real Kafka: nothing is lost, no secret gets out."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import signal
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer
from tests.integration.test_cli import Cli
from tests.producing import published

from fleetwake.producer.adapters.mapping import REPAIRED
from fleetwake.schemas.topics import ALL_TOPICS, DEAD_LETTERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetwake.producer.settings import KafkaSettings
    from fleetwake.schemas.event import AuditEvent
    from fleetwake.schemas.topics import Topic

RECORDINGS = Path(str(files("fleetwake.consumers.demo") / "recordings"))
FILES = sorted(map(str, RECORDINGS.glob("*.jsonl")))
KILLS = 6
LINES = 10_000


@pytest.fixture
async def cli(kafka: Any, tmp_path: Path) -> Cli:
    """A command line whose topics exist."""
    settings = kafka.settings()
    await kafka.create_topics(settings)
    return Cli(settings, tmp_path / "home")


async def records(settings: KafkaSettings, topic: Topic) -> list[Any]:
    """All records of a topic, as bytes."""
    consumer = AIOKafkaConsumer(
        settings.topic(topic),
        bootstrap_servers=settings.bootstrap_servers,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    found = []
    async with asyncio.timeout(60), consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        for partition, end in ends.items():
            while await consumer.position(partition) < end:
                polled = await consumer.getmany(partition, timeout_ms=500)
                found += polled.get(partition, [])
    return found


async def dead_letters(settings: KafkaSettings) -> list[tuple[bytes, dict[str, str]]]:
    """Their bytes and headers."""
    return [
        (one.value, {name: value.decode() for name, value in one.headers})
        for one in await records(settings, DEAD_LETTERS)
    ]


async def events(settings: KafkaSettings) -> list[AuditEvent]:
    """All events but the producers' own, partition by partition."""
    return [
        event
        for found in (await published(settings)).values()
        for event in found
        if event.event_type not in {"producer.close", "gap"}
    ]


def calute(number: int, **fields: Any) -> dict[str, Any]:
    """A record of Calute, which has no id of its own."""
    micros = 1_775_728_800_000_000 + number
    return {
        "event_type": "turn_start",
        "timestamp": f"2026-04-09T10:00:00.{micros % 1_000_000:06}+00:00",
        "agent_id": "agent-1",
        "turn_id": f"t{number}",
        "session_id": f"sess-{number % 7}",
        "severity": "info",
        "metadata": {},
        "prompt_preview": f"Line {number}",
    } | fields


def write(path: Path, lines: Iterator[Any] | list[Any], *, mode: str = "w") -> Path:
    """JSON lines."""
    with path.open(mode) as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return path


async def test_every_recording_arrives(cli: Cli) -> None:
    """All systems in one run; a session's events on one partition, in order."""
    told = await cli("ingest", *FILES)
    lines = sum(Path(file).read_text("utf-8").count("\n") for file in FILES)
    found = await published(cli.kafka)
    partitions = Counter(
        (event.session_id, partition)
        for partition, events in found.items()
        for event in events
    )

    assert told.code == 0, told.err
    assert f"{lines:,} lines: {lines:,} taken" in told.err
    assert {"calute", "agent_framework", "agent_sdk", "atof"} <= {
        event.source for events in found.values() for event in events
    }
    assert len(partitions) == len({session for session, _ in partitions})
    for events in found.values():
        last: dict[str, int] = {}
        for event in events:
            assert event.sequence == last.get(event.session_id, 0) + 1
            last[event.session_id] = event.sequence


async def test_a_run_that_is_repeated_publishes_nothing_again(cli: Cli) -> None:
    """Unless it is asked to; what was added since is published."""
    file = write(cli.home.with_name("a.jsonl"), [calute(n) for n in range(50)])
    first = await cli("ingest", str(file))
    again = await cli("ingest", str(file))
    write(file, [calute(50)], mode="a")
    more = await cli("ingest", str(file))
    restart = await cli("ingest", str(file), "--restart")
    found = await events(cli.kafka)

    assert "50 taken" in first.err
    assert " 0 taken" in again.err
    assert "50 already published" in again.err
    assert " 1 taken" in more.err
    assert "51 taken" in restart.err
    assert len(found) == 102
    assert len({event.event_id for event in found}) == 51


@pytest.mark.timeout(180)
async def test_kills_lose_nothing(cli: Cli, record_property: Any) -> None:
    """Kill -9 at any time; what comes twice has the same id."""
    draw = random.Random(4)
    file = write(cli.home.with_name("a.jsonl"), map(calute, range(LINES)))
    convert = await cli("convert", str(file))
    killed = 0
    for _ in range(KILLS):
        process = await cli.start("ingest", str(file))
        await marked(cli, process)
        await asyncio.sleep(draw.uniform(0, 0.4))
        if process.returncode is None:
            process.kill()
            killed += 1
        await process.communicate()
    told = await cli("ingest", str(file))
    found = await events(cli.kafka)
    expected = {row["event_id"] for row in convert.rows}
    twice = len(found) - LINES
    record_property("duplicates", twice)
    print(f"{LINES} lines, {killed} kills: 0 lost, {twice} duplicates")

    assert told.code == 0, told.err
    assert expected == {event.event_id for event in found}
    assert len(expected) == LINES
    assert killed


async def marked(cli: Cli, process: asyncio.subprocess.Process) -> None:
    """Wait until the process has written how far it is, or ended."""
    before = places(cli)
    async with asyncio.timeout(60):
        while process.returncode is None and places(cli) == before:
            await asyncio.sleep(0.005)


def places(cli: Cli) -> list[bytes]:
    """The bookmarks."""
    return [path.read_bytes() for path in (cli.home / "ingest").glob("*.json")]


async def test_a_file_is_followed_through_rotation(cli: Cli) -> None:
    """Half a line waits; SIGTERM delivers, and the next run goes on from there."""
    path = cli.home.with_name("a.jsonl")
    process = await cli.start("ingest", "--follow", str(path), "--agent", "a-1")
    assert process.stderr is not None
    said = await process.stderr.readline()
    write(path, [calute(0)])
    await arrived(cli, 1)
    with path.open("a") as file:
        half = json.dumps(calute(1)) + "\n"
        file.write(half[:40])
        file.flush()
        await asyncio.sleep(0.5)
        file.write(half[40:])
    await arrived(cli, 2)
    path.rename(path.with_suffix(".1"))
    write(path.with_suffix(".1"), [calute(2)], mode="a")
    write(path, [calute(3)])
    await arrived(cli, 4)
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    write(path, [calute(4)], mode="a")
    told = await cli("ingest", str(path), "--agent", "a-1")
    found = await events(cli.kafka)

    assert process.returncode == 130
    assert b"not there yet" in said
    assert "1 already published" in told.err
    assert Counter(event.turn_id for event in found) == dict.fromkeys(
        ("t0", "t1", "t2", "t3", "t4"), 1
    )


async def arrived(cli: Cli, count: int) -> None:
    """Wait until so many events are in Kafka."""
    async with asyncio.timeout(60):
        while len(await events(cli.kafka)) < count:
            await asyncio.sleep(0.1)


async def test_bad_lines_have_their_outcome(cli: Cli) -> None:
    """As docs/ingest.md says: taken, repaired with a note, or set aside."""
    big = {"data": "x" * 5_000_000}
    lines = [
        json.dumps(calute(1)),
        "broken",
        json.dumps(calute(2)).replace("2026-04-09T10:00:00.000002+00:00", "{}"),
        json.dumps(calute(3, timestamp="2026-04-09T10:00:00")),
        json.dumps(calute(4, timestamp=1775728800.5)),
        json.dumps(calute(5, metadata={"x": float("nan")})),
        json.dumps(calute(6, event_type="never_seen")),
        json.dumps(calute(7, metadata=big)),
        json.dumps(calute(8, session_id=None)),
        json.dumps(calute(9, prompt_preview="\ud800")),
        json.dumps({"message": "hello"}),
        json.dumps({"event_type": "mark"}),
        "x" * (9 * 1024 * 1024),
    ]
    path = cli.home.with_name("bad.jsonl")
    path.write_bytes(
        "\n".join([*lines, "", "\0"]).encode() + b"\r\n\xff\xfe\n" + b"[" * 9999
    )
    rejects = cli.home.with_name("rejects.jsonl")
    told = await cli("ingest", str(path), "--rejects", str(rejects))
    found = {event.turn_id: event for event in await events(cli.kafka)}
    letters = await dead_letters(cli.kafka)
    reasons = Counter(headers["fleetwake-reason"] for _, headers in letters)
    written = [json.loads(line) for line in rejects.read_text().splitlines()]

    assert told.code == 1
    assert "17 lines: 6 taken" in told.err
    assert {"t1", "t5", "t6", "t7", "t8", "t9"} == set(found)
    assert found["t5"].attributes[REPAIRED] == "not_finite"
    assert (found["t6"].event_type, found["t6"].source_event_type) == (
        "custom",
        "never_seen",
    )
    assert (found["t7"].payload_chars or 0) > 5_000_000
    assert json.loads(found["t7"].payload or "")
    assert found["t8"].session_id == "bad"
    assert {
        "not_json": 2,
        "timestamp_malformed": 1,
        "timestamp_without_zone": 1,
        "timestamp_not_text": 1,
        "unknown_format": 1,
        "invalid_event": 1,
        "too_long": 1,
        "not_utf8": 1,
        "too_deep": 1,
    } == dict(reasons)
    assert sorted(reasons.elements()) == sorted(one["reason"] for one in written)
    assert b"broken" in [value for value, _ in letters]
    assert {str(path)} == {headers["fleetwake-origin-file"] for _, headers in letters}
    assert rejects.stat().st_mode & 0o777 == 0o600


async def test_thousands_of_broken_lines_are_all_set_aside(cli: Cli) -> None:
    """The reader waits for dead letters too."""
    text = "".join(f"broken {number}\n" for number in range(25_000))
    told = await cli("ingest", "-", text=text)
    letters = await dead_letters(cli.kafka)

    assert told.code == 1
    assert len({value for value, _ in letters}) == 25_000


SECRETS = {
    "github": "ghp_" + "0123456789abcdefghijABCDEFGHIJ012345",
    "bearer": "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJmbGVldCJ9.c2lnbmF0dXJlMTIzNDU2",
    "aws": "AKIA" + "QWERTYUIOPASDFGH",
    "password": "hunter2-very-secret-value",
}


def planted() -> Iterator[str]:
    """Lines of all formats, whole and broken, each with all the secrets."""
    inner = {
        "headers": {"Authorization": SECRETS["bearer"]},
        "text": f"use {SECRETS['github']} and {SECRETS['aws']}",
        "password": SECRETS["password"],
    }
    for file in FILES:
        line = json.loads(Path(file).read_text("utf-8").splitlines()[0])
        for name in (
            "metadata",
            "payload",
            "data",
            "effective_input",
            "model_response",
        ):
            if name in line:
                line[name] = inner
        if isinstance(line.get("outcome"), dict):
            line["outcome"] |= {"reason": inner["text"]}
        yield json.dumps(line)
        yield json.dumps(line)[:-1]
        yield json.dumps(line | {"timestamp": 1.5, "recorded_at": 1.5})
    yield json.dumps({"event_type": "mark", "session_id": "s", "payload": inner})
    yield json.dumps({"event_type": "mark", "session_id": "s", **inner})
    yield json.dumps({"unknown": inner})
    yield f"curl -H 'Authorization: {SECRETS['bearer']}' {inner['text']}"
    yield json.dumps({"event_type": "mark", "session_id": "s", SECRETS["github"]: 1})


async def test_secrets_are_nowhere(cli: Cli) -> None:
    """In no topic, key or header, no file that we write, nothing that we say."""
    path = cli.home.with_name("a.jsonl.gz")
    path.write_bytes(gzip.compress("\n".join(planted()).encode()))
    rejects = cli.home.with_name("rejects.jsonl")
    told = await cli("ingest", str(path), "--rejects", str(rejects), "--debug")
    assert told.code == 1, told.err
    bare = {name: one.removeprefix("Bearer ") for name, one in SECRETS.items()}
    places = {
        topic.name: b"".join(map(whole, await records(cli.kafka, topic)))
        for topic in ALL_TOPICS
    }
    places |= {"stderr": told.err.encode(), "stdout": told.out.encode()}
    kept = [rejects, *(one for one in cli.home.rglob("*") if one.is_file())]
    places |= {str(one): one.read_bytes() for one in kept}

    assert all(SECRETS["github"] in line for line in planted())
    assert {"calute", "agent_framework", "agent_sdk", "atof", "native"} == {
        event.source for event in await events(cli.kafka)
    }
    assert len(places["events"]) > 2_000
    assert len(places["dead-letters"]) > 2_000
    assert len(kept) >= 2
    assert [] == [
        (where, name)
        for where, content in places.items()
        for name, secret in bare.items()
        if secret.encode() in content
    ]


def whole(record: Any) -> bytes:
    """All bytes of a record."""
    headers = b"".join(name.encode() + value for name, value in record.headers)
    return b"".join([record.key or b"", record.value or b"", headers])


async def test_what_convert_prints_is_taken_in(cli: Cli) -> None:
    """And arrives as if the recordings had been ingested themselves."""
    direct = await cli("ingest", *FILES)
    for file in FILES:
        printed = await cli("convert", file)
        again = await cli("ingest", "-", text=printed.out)
        assert (0, 0) == (printed.code, again.code)
    twins: dict[str, list[AuditEvent]] = {}
    for event in await events(cli.kafka):
        same = event._replace(recorded_at=0, producer_id="", sequence=0)
        twins.setdefault(event.event_id, []).append(same)

    assert direct.code == 0
    for first, second in twins.values():
        assert first == second


async def test_shifted_events_are_of_now(cli: Cli) -> None:
    """With their distances."""
    file = write(cli.home.with_name("a.jsonl"), [calute(0), calute(250_000)])
    told = await cli("ingest", str(file), "--time", "shift")
    found = sorted(one.occurred_at for one in await events(cli.kafka))

    assert told.code == 0
    assert found[1] - found[0] == 250_000
    assert found[1] > 1_775_728_801_000_000
