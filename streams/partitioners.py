"""Which partition a producer puts a key into: the ways that the common clients have by default.

Headgate never chooses a partition itself. After a topic has got more of them it has to know which keys went where
(streams/rescaled.py); which of these ways producers use is seen in what they have sent so far.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

KEYS_KEPT = 100_000


def murmur2(key: bytes) -> int:
    """As Kafka's Java client has it: 32 bits, seed 0x9747b28c, without the sign."""
    mask, factor = 0xFFFFFFFF, 0x5BD1E995
    length = len(key)
    found = (0x9747B28C ^ length) & mask
    whole = length & ~3
    for start in range(0, whole, 4):
        part = int.from_bytes(key[start : start + 4], "little") * factor & mask
        part = (part ^ part >> 24) * factor & mask
        found = (found * factor & mask) ^ part
    if rest := key[whole:]:
        found = (found ^ int.from_bytes(rest, "little")) * factor & mask
    found = (found ^ found >> 13) * factor & mask
    return (found ^ found >> 15) & 0x7FFFFFFF


def fnv1a(key: bytes) -> int:
    """32 bits, as a signed number without its sign: what Sarama (Go) has."""
    found = 0x811C9DC5
    for byte in key:
        found = (found ^ byte) * 0x01000193 & 0xFFFFFFFF
    return 0x1_0000_0000 - found if found & 0x8000_0000 else found


#: Name -> hash. murmur2: Java, kafka-python, aiokafka, Kafka Connect, Kafka Streams. crc32: librdkafka and with it
#: confluent-kafka, .NET, node-rdkafka. fnv1a: Sarama.
HASHES: Mapping[str, Callable[[bytes], int]] = {"murmur2": murmur2, "crc32": zlib.crc32, "fnv1a": fnv1a}
#: Every key is in every partition, for producers with a way of their own.
ANY = "any"
PARTITIONERS = (*HASHES, ANY)


@lru_cache(maxsize=KEYS_KEPT)
def partition_of(partitioner: str, key: str, partitions: int) -> int:
    return HASHES[partitioner](key.encode()) % partitions


def belongs(partitioner: str, key: str, partition: int, partitions: int) -> bool:
    return partitioner == ANY or partition_of(partitioner, key, partitions) == partition


def fitting(placed: Iterable[tuple[str, int]], partitions: int) -> list[str]:
    """The ways that explain where keys lie, of (key, partition) pairs. None where producers have a way of their own, or
    more than one; several where too few keys or a single partition do not tell."""
    keys = dict.fromkeys(placed)
    misses: Counter[str] = Counter()
    for key, partition in keys:
        misses.update(name for name in HASHES if partition_of(name, key, partitions) != partition)
    return [name for name in HASHES if not misses[name]]
