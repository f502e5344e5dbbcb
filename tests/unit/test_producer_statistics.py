"""What a producer tells of itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families
from tests.producing import event, until
from typer.testing import CliRunner

from fleetwake.consumers.cli.app import app
from fleetwake.producer.settings import ProducerSettings
from fleetwake.producer.statistics import DeliveryStatistics
from fleetwake.producer.testing import MemoryLog, memory_producer

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def statistics() -> DeliveryStatistics:
    return DeliveryStatistics(
        producer_id="p-1",
        accepted=10,
        queued=4,
        queued_bytes=400,
        spooled=3,
        spooled_bytes=300,
        sent=7,
        acknowledged=5,
        adopted=2,
        dropped={"queue_full": 1, "refused": 1},
        unreadable=0,
        invalid=3,
        errors={"delivery": 2},
        last_error=None,
        oldest_age_s=1.5,
        unstored_age_s=0.25,
        connected=True,
    )


def test_prometheus_can_read_it() -> None:
    """The text format, as the official parser sees it."""
    families = list(text_string_to_metric_families(statistics().prometheus()))
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }

    assert 10 == samples["fleetwake_producer_accepted_total", "p-1"]
    assert 1 == samples["fleetwake_producer_dropped_total", "p-1", "refused"]
    assert 2 == samples["fleetwake_producer_errors_total", "p-1", "delivery"]
    assert 3 == samples["fleetwake_producer_spooled_events", "p-1"]
    assert 1.5 == samples["fleetwake_producer_oldest_age_seconds", "p-1"]
    assert 0.25 == samples["fleetwake_producer_unstored_age_seconds", "p-1"]
    assert 1 == samples["fleetwake_producer_connected", "p-1"]
    assert {"counter", "gauge"} == {one.type for one in families}
    assert all(one.documentation for one in families)


def test_what_is_spooled_is_a_part_of_what_is_queued() -> None:
    """Accepted is acknowledged, queued or dropped; the queued are mostly on disk."""
    log = MemoryLog()
    log.is_away = True
    producer, _ = memory_producer(ProducerSettings(durability="spool"), log=log)
    for _ in range(10):
        producer.emit(event())
    until(lambda: producer.statistics().spooled == 10)
    told = producer.statistics()

    assert (10, 10, 0) == (told.accepted, told.queued, told.acknowledged)
    assert told.queued_bytes == told.spooled_bytes > 0
    log.is_away = False
    assert producer.close(20)
    told = producer.statistics()
    assert (11, 11, 0, 0) == (
        told.accepted,
        told.acknowledged,
        told.queued,
        told.spooled_bytes,
    )


def doctor() -> dict[str, dict[str, str]]:
    told = CliRunner().invoke(app, ["doctor", "--json"])
    return {one["name"]: one for one in json.loads(told.stdout)}


def test_doctor_shows_the_producers_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The living with their counts, and what the ended have left."""
    monkeypatch.setenv("FLEETWAKE_HOME", str(tmp_path))
    monkeypatch.setattr("fleetwake.consumers.cli.checks._PATIENCE_S", 0.1)
    assert "producers" in doctor()
    log = MemoryLog()
    log.is_away = True
    producer, _ = memory_producer(ProducerSettings(durability="spool"), log=log)
    for _ in range(10):
        producer.emit(event())
    until(lambda: "10 spooled" in doctor().get("producer", {}).get("found", ""))
    living = doctor()["producer"]
    assert not producer.close(0.3)
    left = doctor()["spool"]

    assert "warn" == living["verdict"]
    assert producer.producer_id in living["found"]
    assert "last error: delivery" in living["found"]
    assert "warn" == left["verdict"]
    assert "left 11 events, the oldest" in left["found"]
