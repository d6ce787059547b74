"""What the same users like should look alike: a contrastive loss for pictures, from engagements alone.

Two items that one user liked are drawn together, and away from all other items of a batch that are not liked in the
same sequence (InfoNCE: van den Oord et al., 2018). It speaks to the picture encoder directly, where the click
likelihood has to pass what it knows through users' states (docs/policy.md has the figures). It knows nothing of slates
or of the policy.
Shape suffixes: B sequences, T time, U different items, V vector components, N likings.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.engagements import CLICK, LIKE, PURCHASE
from models.experience import Experience
from models.item_table import ItemTable
from models.picture_encoder import PictureEncoder

LIKED = (CLICK, LIKE, PURCHASE)
#: Similarities, which lie between -1 and 1, are divided by it.
TEMPERATURE = 0.2
#: More likings of one batch are drawn from, which bounds what a step costs.
MOST_LIKINGS = 1_024
LARGEST_GRADIENT = 1.0
#: The logit of what is no choice.
NO_CHOICE = -1e9


class LookLearner:
    """A picture encoder in training."""

    def __init__(self, encoder: PictureEncoder, items: ItemTable, chance: torch.Generator | None = None) -> None:
        """chance: draws which of what a user liked is to be told from the rest."""
        self.encoder = encoder
        self.items = items
        self.chance = chance
        self.optimizer = torch.optim.Adam(encoder.parameters())

    def learn(self, batch: Experience, learning_rate: float) -> None:
        """One step, if anybody liked two items with pictures."""
        picture_A, pixels_PX = self.items.picture_A, self.items.pixels_PX
        if picture_A is None or pixels_PX is None:
            return
        met = torch.unique(batch.item_BT[batch.item_BT >= 0])
        used = met[picture_A[met] >= 0]
        looks_UV = self.encoder(pixels_PX[picture_A[used]])[:, :-1]
        loss = together_loss(looks_UV, likings(batch, used), self.chance)
        if loss is not None:
            self.optimizer.param_groups[0]["lr"] = learning_rate
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.encoder.parameters(), LARGEST_GRADIENT)
            self.optimizer.step()


def together_loss(looks_UV: Tensor, liked_BU: Tensor, chance: torch.Generator | None = None) -> Tensor | None:
    """Minus the log-likelihood of another item that was liked in the sequence of a liking, among those that were not;
    None where two were liked in none. liked_BU: as `likings` has it; chance: draws which.

    How often an item is liked in the batch counts as known, so that its looks need not say it.
    """
    user_N, item_N = (liked_BU * (liked_BU.sum(1, keepdim=True) > 1)).nonzero(as_tuple=True)
    if len(user_N) > MOST_LIKINGS:
        drawn = torch.randperm(len(user_N), generator=chance)[:MOST_LIKINGS].to(user_N.device)
        user_N, item_N = user_N[drawn], item_N[drawn]
    if not len(user_N):
        return None
    theirs_NU = liked_BU[user_N]
    other_N = torch.multinomial(without(theirs_NU, item_N).cpu(), 1, generator=chance)[:, 0].to(user_N.device)
    direction_UV = functional.normalize(looks_UV, dim=1)
    logits_NU = direction_UV[item_N] @ direction_UV.T / TEMPERATURE + liked_BU.sum(0).clamp(min=0.5).log()
    return functional.cross_entropy(logits_NU.masked_fill(without(theirs_NU, other_N) > 0, NO_CHOICE), other_N)


def without(theirs_NU: Tensor, item_N: Tensor) -> Tensor:
    return theirs_NU.scatter(1, item_N[:, None], 0.0)


def likings(batch: Experience, used: Tensor) -> Tensor:
    """float32[B, U]: 1 where the user liked the item; used: the rows of those that count, in rising order."""
    good_BT = torch.isin(batch.action_BT, torch.tensor(LIKED, device=used.device)) & torch.isin(batch.item_BT, used)
    row, place = good_BT.nonzero(as_tuple=True)
    liked_BU = torch.zeros(len(batch), len(used), device=used.device)
    liked_BU[row, torch.searchsorted(used, batch.item_BT[row, place])] = 1.0
    return liked_BU
