"""What a policy would have thought of the candidates of slates that others made, by replaying the users' engagements
through the very code that runs live. The input of off-policy evaluation."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from models.catalogue import Catalogue
from models.guard_rails import SlateRules
from models.hashing import hashes
from models.policy import TrainedPolicy
from models.policy_history import PolicyHistory
from models.running_policy import RunningPolicy
from models.slates import floored_log_weights
from models.users import NotedBatch, Users

#: Engagements that are replayed at once.
ROWS_AT_ONCE = 4_096


@dataclass(frozen=True, slots=True)
class Replay:
    """history's catalogue rows are those of `catalogue`."""

    history: PolicyHistory
    catalogue: Catalogue
    rules: SlateRules
    device: torch.device

    @torch.inference_mode()
    def log_weights(self, policy: TrainedPolicy) -> npt.NDArray[np.float32]:
        """float32[n, C]: with which log-weights the policy would have drawn each logged slate, of what the guard rails
        had left and with the floor. For users who are too new for any policy, those that were logged."""
        slates, users = self.history.slates, Users()
        found = slates.log_weights.astype(np.float32)
        running = RunningPolicy(policy, self.catalogue, users, self.device)
        order = np.argsort(self.history.cause, kind="stable")
        causes, done = self.history.cause[order], 0
        for start in range(0, len(self.history.engagements), ROWS_AT_ONCE):
            stop = min(start + ROWS_AT_ONCE, len(self.history.engagements))
            noted, states = self._step(users, running, np.arange(start, stop))
            upto = int(np.searchsorted(causes, stop))
            if upto > done:
                self._judge(running, noted, states, order[done:upto], causes[done:upto] - start, found)
            done = upto
        return found

    def _step(
        self, users: Users, running: RunningPolicy, rows: npt.NDArray[np.int64]
    ) -> tuple[NotedBatch, torch.Tensor]:
        events = self.history.engagements.take(rows)
        running.build_states(np.unique(users.find(events)))
        noted = users.note(events, hashes(events.item_id).view(np.int64))
        return noted, running.step(noted, self.history.item[rows].astype(np.int64)[noted.rows])

    def _judge(
        self,
        running: RunningPolicy,
        noted: NotedBatch,
        states: torch.Tensor,
        slates: npt.NDArray[np.int64],
        causes: npt.NDArray[np.int64],
        found: npt.NDArray[np.float32],
    ) -> None:
        """Writes the log-weights of some slates, whose causes are these rows of the batch."""
        place = np.full(len(noted.slot), -1, np.int64)
        place[noted.rows] = np.arange(len(noted.rows))
        at = place[causes]
        decided = (at >= 0) & (noted.told[at] >= self.rules.least_told)
        if not decided.any():
            return
        slates, at = slates[decided], at[decided]
        candidates = self.history.slates.candidates[slates].astype(np.int64)
        allowed = np.isfinite(self.history.slates.log_weights[slates]) & (candidates >= 0)
        liking = running.likings(running.query(states, at), candidates)
        found[slates] = floored_log_weights(np.where(allowed, liking, 0), allowed, self.rules.floor)
