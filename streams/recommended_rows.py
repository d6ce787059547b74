"""Slates of one batch, as columns, and as the rows that the relay publishes of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.outbox import RecommendationRow, RecommendedItemRow
from streams.decode_engagements import DecodedEngagements


@dataclass(frozen=True, slots=True)
class RecommendedRows:
    """n slates, at least one, of up to K items, each out of up to C candidates, in answer to engagements of a batch.

    row int64[n]: the row of each one's cause among the decoded engagements, ascending; recommendation_id, policy: one
    for each slate; made_at: of all, epoch milliseconds; catalogue: the version that was chosen from; seed uint64[n]: of
    the draws; candidates int64[n, C]: keys of items (models/catalogue.py), in any order; log_weights float32[n, C]: the
    floor included; present bool[n, C]: false where there is no candidate; item_id: the items of each slate in their
    order, at least one and at most K; propensity, prefix, score float[n, K]: of each position, whatever beyond the
    slate's last."""

    row: npt.NDArray[np.int64]
    recommendation_id: Sequence[str]
    policy: Sequence[str]
    made_at: int
    catalogue: str
    floor: float
    seed: npt.NDArray[np.uint64]
    candidates: npt.NDArray[np.int64]
    log_weights: npt.NDArray[np.float32]
    present: npt.NDArray[np.bool_]
    item_id: Sequence[Sequence[str]]
    propensity: npt.NDArray[np.float64]
    prefix: npt.NDArray[np.float64]
    score: npt.NDArray[np.floating[Any]]

    def __len__(self) -> int:
        return len(self.row)

    def published(self, decoded: DecodedEngagements) -> list[RecommendationRow]:
        """What storage/outbox.py reads back of them from SQL."""
        made_at = datetime.fromtimestamp(self.made_at / 1000, UTC)
        propensity, score = self.propensity.tolist(), self.score.astype(np.float64).tolist()
        offset = decoded.offset[self.row].tolist()
        return [
            RecommendationRow(
                source_offset=offset[place],
                recommendation_id=self.recommendation_id[place],
                user_id=decoded.user_id[row],
                made_at=made_at,
                policy=self.policy[place],
                cause=decoded.event_id[row],
                items=[
                    RecommendedItemRow(*item)
                    for item in zip(
                        self.item_id[place],
                        range(1, len(self.item_id[place]) + 1),
                        propensity[place],
                        score[place],
                        strict=False,
                    )
                ],
            )
            for place, row in enumerate(self.row.tolist())
        ]
