"""Slates as they were shown: what was chosen out of what, with which probability, and what came of it.

The input of training (train_policy.py) and of off-policy evaluation (off_policy.py); live decisions and benchmarks
make the same. Slates are Plackett-Luce: positions are filled one after the other, each with the probability of an
item's weight among those that are left.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class LoggedSlates:
    """n slates in the order of time, each of up to K items out of up to C candidates.

    user int64[n]: numbers of users, from 0; made_at int64[n] (epoch milliseconds); policy: who chose, one name for
    each slate; candidates int32[n, C]: rows of the catalogue, -1 for none; log_weights float32[n, C]: the Plackett-Luce
    log-weights it was drawn with, the exploration floor included, -inf where an item could not be chosen; picks
    int16[n, K]: the candidate at each position, -1 for none; reward float64[n, K]: of each position, all that came so
    far; matured bool[n]: its reward window is over.
    """

    user: npt.NDArray[np.int64]
    made_at: npt.NDArray[np.int64]
    policy: Sequence[str]
    candidates: npt.NDArray[np.int32]
    log_weights: npt.NDArray[np.float32]
    picks: npt.NDArray[np.int16]
    reward: npt.NDArray[np.float64]
    matured: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: npt.NDArray[Any]) -> "LoggedSlates":
        """The given rows (an index array), in its order."""
        return LoggedSlates(
            self.user[rows],
            self.made_at[rows],
            [self.policy[row] for row in rows.tolist()],
            self.candidates[rows],
            self.log_weights[rows],
            self.picks[rows],
            self.reward[rows],
            self.matured[rows],
        )

    @staticmethod
    def concatenate(parts: Sequence["LoggedSlates"]) -> "LoggedSlates":
        """Parts (at least one) of the same K and C."""
        arrays = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(LoggedSlates)
            if field.name != "policy"
        }
        return LoggedSlates(policy=[name for part in parts for name in part.policy], **arrays)
