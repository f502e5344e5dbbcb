"""What is asked when records name schemas that are not packaged."""

from __future__ import annotations

from fleetwake.producer import lookup
from fleetwake.producer.lookup import NetworkSchemas
from fleetwake.producer.settings import KafkaSettings, RegistrySettings


async def test_a_flood_of_unknown_schemas_is_one_question(monkeypatch) -> None:
    """Whoever writes senseless headers into a topic must not stop its readers."""
    reads = []

    async def read_topic(*_):
        reads.append(1)
        return []

    monkeypatch.setattr(lookup, "read_topic", read_topic)
    schemas = NetworkSchemas(KafkaSettings(), RegistrySettings(url=""))
    flood = [f"fingerprint:{number:016x}" for number in range(5_000)]
    await schemas.refresh(*flood)
    await schemas.refresh(*flood)

    assert [1] == reads

    await schemas.refresh(flood[0], "fingerprint:00000000ffffffff")

    assert [1, 1] == reads
