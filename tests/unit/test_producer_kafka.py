"""What of the Kafka transport needs no Kafka."""

from __future__ import annotations

import pytest

from fleetwake.producer.kafka import KafkaTransport
from fleetwake.producer.settings import KafkaSettings


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_partition_is_that_of_the_java_client(key: bytes, hashed: int) -> None:
    """Vectors of Kafka's own UtilsTest.testMurmur2."""
    partition = KafkaTransport(KafkaSettings()).partition(key, 2**31)

    assert partition == hashed & 0x7FFFFFFF
