"""The recurrent detector: one GRU step per event and account, a supervised and a self-supervised head.

The same weights run as a step (live: state between events kept by the caller) and over sequences (training). Shape
suffixes: B sequences or rows, T time, F features, C categories, X inputs, H hidden units.

The GRU is that of Cho et al. (2014) as torch implements it. The self-supervised head says, from the state before an
event, how likely its amount, gap, category and merchant are; the negative log-likelihoods are the event's surprise.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.features import CATEGORIES, CATEGORY_BUCKETS, FEATURES, MEMO_BUCKETS

EMBEDDING_SIZES = (8, 4, 2, 4)
MEMO_SIZE = 8
#: Classes that the self-supervised head tells apart: category as it is, merchants folded.
CATEGORY_CLASSES, MERCHANT_CLASSES = 64, 64
AMOUNT, GAP = FEATURES.index("amount"), FEATURES.index("gap")
SURPRISES = 4
LARGEST_SURPRISE = 15.0


@dataclass(frozen=True, slots=True)
class DetectorConfig:
    """hidden: GRU units; reporting_limit: the amount (base currency) below which structuring hides."""

    hidden: int = 64
    head: int = 64
    reporting_limit: float = 10_000.0


class Detector(nn.Module):
    """forward over sequences; step over rows. mean_F and scale_F standardise features inside the model."""

    mean_F: Tensor
    scale_F: Tensor

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = nn.ModuleList(
            nn.Embedding(buckets, size) for buckets, size in zip(CATEGORY_BUCKETS, EMBEDDING_SIZES, strict=True)
        )
        self.memo_embedding = nn.EmbeddingBag(MEMO_BUCKETS, MEMO_SIZE, mode="mean", padding_idx=0)
        inputs = len(FEATURES) + sum(EMBEDDING_SIZES) + MEMO_SIZE
        self.gru = nn.GRU(inputs, config.hidden, batch_first=True)
        self.expectation = nn.Linear(config.hidden, 4 + CATEGORY_CLASSES + MERCHANT_CLASSES)
        self.head = nn.Sequential(
            nn.Linear(config.hidden + inputs + SURPRISES, config.head), nn.ReLU(), nn.Linear(config.head, 1)
        )
        self.register_buffer("mean_F", torch.zeros(len(FEATURES)))
        self.register_buffer("scale_F", torch.ones(len(FEATURES)))

    def inputs(self, features_BF: Tensor, categories_BC: Tensor, memos_BM: Tensor | None) -> Tensor:
        """Standardised features and embeddings, [B, X]; without memos their part is zero."""
        parts = [(features_BF - self.mean_F) / self.scale_F]
        parts += [embed(categories_BC[:, place]) for place, embed in enumerate(self.embeddings)]
        if memos_BM is None:
            parts.append(features_BF.new_zeros(len(features_BF), MEMO_SIZE))
        else:
            parts.append(self.memo_embedding(memos_BM))
        return torch.cat(parts, dim=1)

    def step(self, x_BX: Tensor, h_BH: Tensor) -> Tensor:
        """The state after one event each."""
        weights: Any = self.gru
        return torch.gru_cell(
            x_BX, h_BH, weights.weight_ih_l0, weights.weight_hh_l0, weights.bias_ih_l0, weights.bias_hh_l0
        )

    def run(self, x_TX: Tensor, h_H: Tensor) -> Tensor:
        """The states after each of T events of one account, [T, H]."""
        states, _ = self.gru(x_TX[None], h_H[None, None])
        return states[0]  # type: ignore[no-any-return]

    def surprises(self, before_BH: Tensor, x_BX: Tensor, categories_BC: Tensor) -> Tensor:
        """Negative log-likelihoods of amount, gap, category and merchant given the state before, [B, 4]."""
        expected = self.expectation(before_BH)
        amount = _gaussian(x_BX[:, AMOUNT], expected[:, 0], expected[:, 1])
        gap = _gaussian(x_BX[:, GAP], expected[:, 2], expected[:, 3])
        category = functional.cross_entropy(
            expected[:, 4 : 4 + CATEGORY_CLASSES],
            categories_BC[:, CATEGORIES.index("category")] % CATEGORY_CLASSES,
            reduction="none",
        )
        merchant = functional.cross_entropy(
            expected[:, 4 + CATEGORY_CLASSES :],
            categories_BC[:, CATEGORIES.index("merchant")] % MERCHANT_CLASSES,
            reduction="none",
        )
        return torch.stack([amount, gap, category, merchant], dim=1)

    def unusualness(self, before_BH: Tensor, x_BX: Tensor, surprises_BS: Tensor) -> Tensor:
        """One number per event from surprise alone, [B]: an amount counts only where it is above the expected one."""
        expected_amount = self.expectation(before_BH)[:, 0]
        above = x_BX[:, AMOUNT] > expected_amount
        amount = torch.where(above, surprises_BS[:, 0], torch.zeros_like(surprises_BS[:, 0]))
        return amount.clamp(max=LARGEST_SURPRISE * 4) + 0.2 * surprises_BS[:, 1:].clamp(max=LARGEST_SURPRISE).sum(1)

    def logits(self, after_BH: Tensor, x_BX: Tensor, surprises_BS: Tensor) -> Tensor:
        """The supervised head's log-odds of fraud, [B]."""
        known = surprises_BS.detach().clamp(-LARGEST_SURPRISE, LARGEST_SURPRISE) / 5
        return self.head(torch.cat([after_BH, x_BX, known], dim=1))[:, 0]  # type: ignore[no-any-return]


def _gaussian(value: Tensor, mean: Tensor, log_deviation: Tensor) -> Tensor:
    """Negative log-likelihood; the deviation is kept between .05 and 20."""
    bounded = log_deviation.clamp(-3.0, 3.0)
    return 0.5 * ((value - mean) * torch.exp(-bounded)) ** 2 + bounded + 0.5 * math.log(2 * math.pi)
