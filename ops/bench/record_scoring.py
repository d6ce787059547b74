"""From records to rows as the worker's compute thread gets there: one batch decoded, scored and encoded together.

For benchmarks that want this path alone. What only the worker does (alerts, snapshots, fencing, restoring, metrics) is
left out, and where records come from and rows go is the caller's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.scoring import ScoredBatch, Scorer
from storage.bulk import EncodedRows
from storage.progress import Claim
from streams.decode import DecodedTransactions, decode_transactions
from streams.events import events_of
from streams.records import DecodeLimits, Record
from streams.rows import RowEncoder, ScoredRows, Shares

MODEL = "bench:1"


@dataclass(frozen=True, slots=True)
class ScoredRecords:
    """One batch: what was decoded, by partition; what the detector says of all of it, one partition after the other;
    the rows of all tables."""

    decoded: Mapping[int, DecodedTransactions]
    scored: ScoredBatch
    rows: Sequence[EncodedRows]


class RecordScoring:
    """dialect: of the rows, "postgresql" or "sqlite". Not for several threads."""

    def __init__(self, scorer: Scorer, topic: str, dialect: str) -> None:
        self._scorer = scorer
        self._topic = topic
        self._rows = RowEncoder(dialect)
        self._limits = DecodeLimits()

    def score(self, records: Mapping[int, Sequence[Record]], scored_at: int) -> ScoredRecords:
        """Records by partition, each partition's in offset order. scored_at: epoch milliseconds."""
        decoded = {partition: decode_transactions(part, self._limits) for partition, part in records.items()}
        together = DecodedTransactions.joined(list(decoded.values()))
        # Rows say where they come from; nothing is owned in SQL.
        claims = [Claim(self._topic, 1, partition, 0, 0) for partition in decoded]
        shares = Shares(claims, [len(part) for part in decoded.values()])
        scored = self._scorer.score(events_of(together, shares.partition, {}))
        outcome = ScoredRows(
            score=scored.score,
            unexplained=scored.unexplained,
            flagged=scored.flagged,
            threshold=scored.threshold,
            score_kind=scored.score_kind,
            model=MODEL,
            scored_at=scored_at,
            alert_id=[None] * len(together),
        )
        encoded = self._rows.transactions(shares, together, scored.duplicate, outcome)
        return ScoredRecords(decoded, scored, [rows for own in encoded for rows in own])
