"""Items: the latest record of each into SQL, from where every worker reads the catalogue.

No state but the offsets: a record is applied by what it says, whatever was there before. Pictures are decoded here,
once for all workers, on the thread of this topic: no engagement waits for them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from sqlalchemy import Connection

from models.catalogue import item_key
from models.pictures import ThumbnailMemory
from storage.catalogue import upsert_items
from storage.progress import Advance, Claim
from streams.batch import Chunk, OwnedPartition, PartitionWork, PreparedBatch, usable_by_partition
from streams.decode_items import DecodedItems, decode_items
from streams.health import FlowMetrics
from streams.records import DecodeLimits, Record, reasons
from streams.rows import RowEncoder

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class ItemPartition:
    """How far one partition is on its way to SQL."""

    owner: OwnedPartition
    position: int


class ItemsProcessor:
    """The Processor of the `items` topic."""

    def __init__(self, rows: RowEncoder, limits: DecodeLimits, metrics: FlowMetrics) -> None:
        self._rows = rows
        self._limits = limits
        self._metrics = metrics
        self._thumbnails = ThumbnailMemory()
        self._partitions: dict[int, ItemPartition] = {}

    def process(self, chunks: Sequence[Chunk], now: float) -> PreparedBatch | None:
        found = usable_by_partition(chunks)
        if not found:
            return None
        works = [self._work(owner, records) for owner, records in found]
        latest = [records[-1].timestamp for _, records in found]
        return PreparedBatch(works, sum(len(records) for _, records in found), now, latest)

    def idle(self, now: float) -> PreparedBatch | None:
        return None

    def _work(self, owner: OwnedPartition, records: Sequence[Record]) -> PartitionWork:
        claim = owner.claim
        state = self._partitions.get(claim.partition)
        if state is None or state.owner is not owner:
            state = self._partitions[claim.partition] = ItemPartition(owner, claim.next_offset)
        decoded = decode_items(records, self._limits, self._thumbnails.of)
        self._count_broken(claim, decoded.broken)
        base, state.position = state.position, records[-1].offset + 1
        step = Advance(
            claim.topic_generation,
            claim.partition,
            claim.epoch,
            base,
            state.position,
            applied=len(decoded),
            dead_letters=len(decoded.dead),
            gaps=state.position - base - len(records),
        )
        outboxes = frozenset({"dead_letters"}) if decoded.dead else frozenset()
        dead = self._rows.dead_letters(claim, decoded.dead)
        finish = [WriteItems(item_rows(claim, decoded))]
        return PartitionWork(owner, step, dead, finish, outboxes, refused=reasons(decoded.dead))

    def _count_broken(self, claim: Claim, broken: Mapping[str, int]) -> None:
        if broken:
            log.warning("items go on without broken parts", topic=claim.topic, partition=claim.partition, **broken)
        for part, count in broken.items():
            self._metrics.items_broken(part, count)


@dataclass(frozen=True, slots=True)
class WriteItems:
    """Writes the latest records of a batch's items, inside its transaction."""

    rows: Sequence[Mapping[str, Any]]

    def __call__(self, connection: Connection) -> None:
        upsert_items(connection, self.rows)


def item_rows(claim: Claim, decoded: DecodedItems) -> list[dict[str, Any]]:
    """Rows of `items`, of each item the last; in the order of their ids, so that no two transactions wait for each
    other."""
    latest = {item_id: row for row, item_id in enumerate(decoded.item_id)}
    return [
        {
            "item_id": item_id,
            "item_key": item_key(item_id),
            "topic_generation": claim.topic_generation,
            "source_partition": claim.partition,
            "source_offset": int(decoded.offset[row]),
            "recorded_at": datetime.fromtimestamp(int(decoded.recorded_at[row]) / 1000, UTC),
            "title": decoded.title[row],
            "text": decoded.text[row],
            "category": decoded.category[row],
            "price": decoded.price[row],
            "image": decoded.image[row],
            "thumbnail": decoded.thumbnail[row],
            "available": bool(decoded.available[row]),
            "deleted": bool(decoded.deleted[row]),
            "extra": None if (extra := decoded.extra[row]) is None else msgspec.json.decode(extra),
        }
        for item_id, row in sorted(latest.items())
    ]
