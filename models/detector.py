"""The recurrent detector: one GRU step per event and account, a supervised and a self-supervised head.

The same weights run over the packed events of a batch (live, from states that the caller keeps) and over padded
sequences (training). Shape suffixes: B rows, T time, F features, C categories, X inputs, H hidden
units, S surprises, L what labels say of the merchant.

Labels are read by the supervised head only. The recurrent state does not depend on them, so that it can be rebuilt
from events alone, whatever was known when.

The self-supervised head says, from the state before an event, how likely its amount, gap, category and merchant are;
the negative log-likelihoods are the event's surprise.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.feature_schema import CATEGORIES, CATEGORY_BUCKETS, CYCLIC, FEATURES, MEMO_BUCKETS
from models.merchant_labels import LABEL_FEATURES
from models.recurrence import gru_step, gru_steps
from models.text_encoder import DistinctTexts, TextEncoder

#: Of each hashed text but the merchant, whose name would only let the network learn by heart which merchants had
#: frauds; what labels say of it stays true tomorrow (docs/log.md has the figures).
EMBEDDINGS = {"category": 4, "channel": 2, "country": 4}
EMBEDDED = tuple(CATEGORIES.index(name) for name in EMBEDDINGS)
MEMO_SIZE = 8
INPUTS = len(FEATURES) + sum(EMBEDDINGS.values()) + MEMO_SIZE
#: Classes that the self-supervised head tells apart: categories and merchants, folded.
CATEGORY_CLASSES, MERCHANT_CLASSES = 32, 64
AMOUNT, AMOUNT_TO_USUAL = FEATURES.index("amount"), FEATURES.index("amount_to_median")
GAP, HISTORY = FEATURES.index("gap"), FEATURES.index("history")
#: The feature `history` is the logarithm of 1 + events before, so below this there are none.
NO_HISTORY = 0.1
CATEGORY, MERCHANT = CATEGORIES.index("category"), CATEGORIES.index("merchant")
SURPRISES = 4
LARGEST_SURPRISE = 15.0
#: What the learned surprises of gap, category and merchant count beside how rare the amount is (docs/detector.md has
#: the figures).
OTHERS_SHARE = 0.05
#: Between these shares of larger amounts lie the pieces in which the head sees how large an amount is, so that it can
#: tell apart what lies far out (piecewise linear encoding; Gorishniy et al., 2022).
TAIL_SHARES = np.geomspace(0.1, 1e-4, 9)
TAIL_PIECES = len(TAIL_SHARES) - 1
#: How much rarer the amounts of each piece are than those of the one before, as a logarithm.
PIECE_RARITY = math.log(TAIL_SHARES[0] / TAIL_SHARES[-1]) / TAIL_PIECES
#: No standardised feature is larger, in either direction: what training hardly ever saw must not run away.
LARGEST_INPUT = 10.0
#: No piece of the amounts is narrower, in standard deviations.
LEAST_PIECE = 1e-3
MOST_PIECES_BEYOND = 10.0
#: Half of what the sine of an evenly spread hour has.
LEAST_CYCLIC_SCALE = 0.35


@dataclass(frozen=True, slots=True)
class DetectorConfig:
    """hidden: GRU units; head: units of the supervised head's first layer, its second has half; reporting_limit: the
    amount (base currency) below which structuring hides; eight_bit: matrices hold what eight_bit.py rounded them to,
    and are kept so."""

    hidden: int = 64
    head: int = 128
    reporting_limit: float = 10_000.0
    eight_bit: bool = False


class Detector(nn.Module):
    """Standardises features itself (mean_F, scale_F), so that the same numbers go in everywhere."""

    mean_F: Tensor
    scale_F: Tensor
    label_mean_L: Tensor
    label_scale_L: Tensor
    amount_knots: Tensor
    usual_knots: Tensor

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = nn.ModuleList(
            nn.Embedding(CATEGORY_BUCKETS[CATEGORIES.index(name)], size) for name, size in EMBEDDINGS.items()
        )
        self.memo_encoder = TextEncoder(MEMO_BUCKETS, MEMO_SIZE)
        self.gru = nn.GRU(INPUTS, config.hidden, batch_first=True)
        self.expectation = nn.Linear(config.hidden, 4 + CATEGORY_CLASSES + MERCHANT_CLASSES)
        self.head = nn.Sequential(
            nn.Linear(config.hidden + INPUTS + SURPRISES + len(LABEL_FEATURES) + TAIL_PIECES, config.head),
            nn.ReLU(),
            nn.Linear(config.head, config.head // 2),
            nn.ReLU(),
            nn.Linear(config.head // 2, 1),
        )
        self.register_buffer("mean_F", torch.zeros(len(FEATURES)))
        self.register_buffer("scale_F", torch.ones(len(FEATURES)))
        self.register_buffer("label_mean_L", torch.zeros(len(LABEL_FEATURES)))
        self.register_buffer("label_scale_L", torch.ones(len(LABEL_FEATURES)))
        self.register_buffer("amount_knots", torch.arange(1.0, TAIL_PIECES + 2))
        self.register_buffer("usual_knots", torch.arange(1.0, TAIL_PIECES + 2))

    @property
    def device(self) -> torch.device:
        return self.mean_F.device

    def standardise_by(self, features_BF: Tensor, labels_BL: Tensor) -> None:
        """Takes mean and scale from a sample; a feature that does not vary in it keeps its scale. A sample of some
        minutes must not make the rest of the day look extreme, so the time of day keeps a scale of its own."""
        mean_F, scale_F = _mean_and_scale(features_BF)
        cyclic = [FEATURES.index(name) for name in CYCLIC]
        scale_F[cyclic] = scale_F[cyclic].clamp(min=LEAST_CYCLIC_SCALE)
        self.mean_F.copy_(mean_F)
        self.scale_F.copy_(scale_F)
        label_mean_L, label_scale_L = _mean_and_scale(labels_BL)
        self.label_mean_L.copy_(label_mean_L)
        self.label_scale_L.copy_(label_scale_L)
        for knots, column in ((self.amount_knots, AMOUNT), (self.usual_knots, AMOUNT_TO_USUAL)):
            found = np.quantile(features_BF[:, column].double().numpy(), 1 - TAIL_SHARES)
            standardised = (found - float(mean_F[column])) / float(scale_F[column])
            apart = np.maximum.accumulate(standardised + LEAST_PIECE * np.arange(len(found)))
            knots.copy_(torch.from_numpy(apart))

    def inputs(self, features_BF: Tensor, categories_BC: Tensor, memos: DistinctTexts | None) -> Tensor:
        """Standardised features and embeddings, [B, X]; where no memo is given its part is zero."""
        standardised_BF = ((features_BF - self.mean_F) / self.scale_F).clamp(-LARGEST_INPUT, LARGEST_INPUT)
        parts = [standardised_BF]
        parts += [embed(categories_BC[:, column]) for column, embed in zip(EMBEDDED, self.embeddings, strict=True)]
        if memos is None:
            parts.append(features_BF.new_zeros(len(features_BF), MEMO_SIZE))
        else:
            parts.append(self.memo_encoder.of_rows(memos, len(features_BF)))
        return torch.cat(parts, dim=1)

    def step(self, x_BX: Tensor, h_BH: Tensor) -> Tensor:
        """The state after one event each."""
        return gru_step(self.gru, x_BX, h_BH)

    def steps(self, x_BX: Tensor, wave_sizes: list[int], h_AH: Tensor) -> Tensor:
        """The states after each of B events of A accounts, [B, H]; waves as in recurrence.gru_steps."""
        return gru_steps(self.gru, x_BX, wave_sizes, h_AH)

    def surprise(self, before_BH: Tensor, x_BX: Tensor, categories_BC: Tensor) -> tuple[Tensor, Tensor]:
        """How unexpected events are given the states before them: the negative log-likelihoods of amount, gap,
        category and merchant, [B, S]; and one number from them, [B].

        An amount's likelihood is that of its distance from the account's usual one, of which the state says how far it
        will be off; of an account's first event, that of the amount among all. The one number is how rare the amount
        is, among all or by its distance from the usual, whichever is rarer (Tippett, 1931), since a state that has seen
        the beginning of a fraud expects more of it; and a little of the other three surprises.
        """
        expected = self.expectation(before_BH)
        category, merchant = categories_BC[:, CATEGORY], categories_BC[:, MERCHANT]
        classes = expected[:, 4:].split([CATEGORY_CLASSES, MERCHANT_CLASSES], dim=1)
        no_history = (NO_HISTORY - self.mean_F[HISTORY]) / self.scale_F[HISTORY]
        is_first = x_BX[:, HISTORY] <= no_history.clamp(min=-LARGEST_INPUT)
        amount = torch.where(is_first, x_BX[:, AMOUNT], x_BX[:, AMOUNT_TO_USUAL])
        of_amount = expected[:, :2].masked_fill(is_first[:, None], 0.0)
        mean, log_deviation = torch.stack([of_amount, expected[:, 2:4]], dim=2).unbind(1)
        likely = _gaussian(torch.stack([amount, x_BX[:, GAP]], dim=1), mean, log_deviation)
        terms = torch.column_stack(
            [
                likely,
                functional.cross_entropy(classes[0], category % CATEGORY_CLASSES, reduction="none"),
                functional.cross_entropy(classes[1], merchant % MERCHANT_CLASSES, reduction="none"),
            ]
        )
        amounts = torch.stack([x_BX[:, AMOUNT], x_BX[:, AMOUNT_TO_USUAL]], dim=1)
        rare_B = rarity(amounts, torch.stack([self.amount_knots, self.usual_knots])).amax(1)
        return terms, rare_B + OTHERS_SHARE * terms[:, 1:].clamp(max=LARGEST_SURPRISE).sum(1)

    def logits(self, after_BH: Tensor, x_BX: Tensor, surprises_BS: Tensor, labels_BL: Tensor) -> Tensor:
        """The supervised head's log-odds of fraud, [B]; labels_BL in the units of merchant_labels."""
        known = surprises_BS.detach().clamp(-LARGEST_SURPRISE, LARGEST_SURPRISE) / 5
        said_BL = ((labels_BL - self.label_mean_L) / self.label_scale_L).clamp(-LARGEST_INPUT, LARGEST_INPUT)
        everything = torch.cat([after_BH, x_BX, known, said_BL, tail_pieces(x_BX[:, AMOUNT], self.amount_knots)], dim=1)
        return self.head(everything)[:, 0]  # type: ignore[no-any-return]


def tail_pieces(value: Tensor, knots: Tensor) -> Tensor:
    """How much of each piece between two knots lies below a value, 0 to 1, [B, TAIL_PIECES]; of several values, [B, n],
    each with knots of its own, [n, TAIL_PIECES + 1], [B, n, TAIL_PIECES]."""
    return ((value[..., None] - knots[..., :-1]) / knots.diff()).clamp(0, 1)


def rarity(value: Tensor, knots: Tensor) -> Tensor:
    """Minus the logarithm of the share of larger values, from the first knot on; beyond the last it goes on as between
    the last two. Shapes as in tail_pieces."""
    beyond = ((value - knots[..., -1]) / (knots[..., -1] - knots[..., -2])).clamp(0, MOST_PIECES_BEYOND)
    return PIECE_RARITY * (tail_pieces(value, knots).sum(-1) + beyond)


def _mean_and_scale(sample: Tensor) -> tuple[Tensor, Tensor]:
    """Of each column, float64; what does not vary keeps its scale."""
    scale, mean = torch.std_mean(sample.double(), dim=0)
    return mean, torch.where(scale > 1e-3, scale, torch.ones_like(scale))


def _gaussian(value: Tensor, mean: Tensor, log_deviation: Tensor) -> Tensor:
    """Negative log-likelihood; the deviation is kept between .05 and 20."""
    bounded = log_deviation.clamp(-3.0, 3.0)
    return 0.5 * ((value - mean) * torch.exp(-bounded)) ** 2 + bounded + 0.5 * math.log(2 * math.pi)
