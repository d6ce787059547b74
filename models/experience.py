"""What a policy learns from: sequences of engagements, and the slates that were shown in between.

Both sources make it: rounds of fresh slates in a simulator, and stored feedback (policy_history.py). Shape suffixes as
in policy.py, and D slates of a sequence, C candidates, K positions.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Experience:
    """B sequences of up to T engagements and D slates, each from a new user's state on, padded at their ends.

    item_BT int64: rows of the item table, -1 for unknown items; action_BT int64, -1 for padding; value_BT and gap_BT
    float32 as in PolicyNetwork.inputs; predicted_BT bool: this engagement came without a recommendation and tells what
    the user looks for. seen_BD int64: the engagements before a slate, -1 for padding; candidates_BDC int64: rows, -1
    for none; log_weights_BDC float32: what the slate was drawn with, -inf where nothing could be chosen; picks_BDK
    int64: places among the candidates, -1 for none; reward_BDK float32: 0 where there was no reaction. continues_B
    bool: more may have come after the last slate that this does not show; else its reward was the last.
    """

    item_BT: Tensor
    action_BT: Tensor
    value_BT: Tensor
    gap_BT: Tensor
    predicted_BT: Tensor
    seen_BD: Tensor
    candidates_BDC: Tensor
    log_weights_BDC: Tensor
    picks_BDK: Tensor
    reward_BDK: Tensor
    continues_B: Tensor

    def __len__(self) -> int:
        return len(self.continues_B)

    @property
    def slates(self) -> int:
        return int((self.seen_BD >= 0).sum())

    def take(self, rows: Tensor) -> "Experience":
        """Some of the sequences, without padding that none of them needs."""
        picked = {field.name: getattr(self, field.name)[rows] for field in fields(self)}
        engagements = int((picked["action_BT"] >= 0).sum(1).max()) if len(rows) else 0
        slates = int((picked["seen_BD"] >= 0).sum(1).max()) if len(rows) else 0
        for name, column in picked.items():
            if name.endswith("_BT"):
                picked[name] = column[:, :engagements]
            elif "_BD" in name:
                picked[name] = column[:, :slates]
        return Experience(**picked)

    def to(self, device: torch.device) -> "Experience":
        return Experience(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})
