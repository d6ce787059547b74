"""What the peers have in common: the same decoding, model step and COPY as the worker, behind one call.

A peer brings records in by its own framework and hands them over; here they are decoded, scored, encoded and written
by Headgate's own functions (record_scoring.py) in one SQL transaction, which counts them in `bench_progress`. What only
the worker does (alerts, relay, fencing, restoring, metrics) is left out, in the peers' favour.
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
from ops.bench.record_scoring import RecordScoring
from storage.bulk import write_rows
from storage.database import open_database
from streams.records import Record

#: Records that a peer gathers for one model step and one SQL transaction, as far as its framework lets it choose.
BATCH_RECORDS = 4096

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
        scorer = Scorer(TrainedDetector.from_bytes(options.model.read_bytes()))
        self._scoring = RecordScoring(scorer, options.topic, database.dialect)
        self._connection = database.connect()

    def write(self, records: Mapping[int, Sequence[Record]]) -> None:
        """Records by partition, each partition's in offset order: scored as one batch, stored in one transaction."""
        scored = self._scoring.score(records, int(time.time() * 1000))
        with self._connection.begin():
            write_rows(self._connection, scored.rows)
            for partition, part in scored.decoded.items():
                self._connection.execute(COUNT, {"partition": partition, "events": len(part)})
