"""What the peers have in common: the same decoding, model step and COPY as the worker, behind one call.

A peer brings records in by its own framework and hands them over; here they are decoded, scored, encoded and written
by Headgate's own functions in one SQL transaction, which counts them in `bench_progress`. What only the worker does
(alerts, relay, fencing, restoring, metrics) is left out, in the peers' favour.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from sqlalchemy import text

from models.artifact import TrainedDetector
from models.scoring import Scorer
from storage.bulk import EncodedRows, write_rows
from storage.database import open_database
from storage.progress import Claim
from streams.decode import DecodedTransactions, decode_transactions
from streams.events import events_of
from streams.records import DecodeLimits, Record
from streams.rows import RowEncoder, ScoredRows, Shares

#: Records that a peer gathers for one model step and one SQL transaction, as far as its framework lets it choose.
BATCH_RECORDS = 4096
MODEL = "bench:1"

COUNT = text(
    "INSERT INTO bench_progress (source_partition, events) VALUES (:partition, :events) "
    "ON CONFLICT (source_partition) DO UPDATE SET events = bench_progress.events + excluded.events"
)


@dataclass(frozen=True, slots=True)
class PeerOptions:
    """kafka: bootstrap servers; database: SQLAlchemy URL; model: a detector's file."""

    kafka: str
    database: str
    topic: str
    group: str
    model: Path


def read_options() -> PeerOptions:
    parser = argparse.ArgumentParser()
    for name in ("kafka", "database", "topic", "group"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--model", required=True, type=Path)
    return PeerOptions(**vars(parser.parse_args()))


class ScoringSink:
    """Scores batches and commits them over one connection. Not for several threads."""

    def __init__(self, options: PeerOptions) -> None:
        torch.set_num_threads(1)
        database = open_database(options.database)
        self._topic = options.topic
        self._scorer = Scorer(TrainedDetector.from_bytes(options.model.read_bytes()))
        self._rows = RowEncoder(database.dialect)
        self._limits = DecodeLimits()
        self._connection = database.connect()

    def write(self, records: Mapping[int, Sequence[Record]]) -> None:
        """Records by partition, each partition's in offset order: scored as one batch, stored in one transaction."""
        decoded = {partition: decode_transactions(part, self._limits) for partition, part in records.items()}
        together = DecodedTransactions.joined(list(decoded.values()))
        shares = Shares([self._place(partition) for partition in decoded], [len(part) for part in decoded.values()])
        scored = self._scorer.score(events_of(together, shares.partition, {}))
        outcome = ScoredRows(
            score=scored.score,
            unexplained=scored.unexplained,
            flagged=scored.flagged,
            threshold=scored.threshold,
            score_kind=scored.score_kind,
            model=MODEL,
            scored_at=int(time.time() * 1000),
            alert_id=[None] * len(together),
        )
        encoded = self._rows.transactions(shares, together, scored.duplicate, outcome)
        self._commit([rows for own in encoded for rows in own], decoded)

    def _place(self, partition: int) -> Claim:
        """Rows say where they come from; a peer owns nothing in SQL."""
        return Claim(self._topic, 1, partition, 0, 0)

    def _commit(self, encoded: Sequence[EncodedRows], decoded: Mapping[int, DecodedTransactions]) -> None:
        with self._connection.begin():
            write_rows(self._connection, encoded)
            for partition, part in decoded.items():
                self._connection.execute(COUNT, {"partition": partition, "events": len(part)})
