"""The recommender's policy: a user's engagements as a recurrent state, items as vectors, and a file for both.

One GRU step per engagement. A user's state gives a query; the policy's preference for an item is the dot product of
query and item vector, so that retrieval over a large catalogue is one too. Item vectors are a learned part (shared by
ids of one bucket, zero for what was never trained on) plus a part made from the item's content, so a new item is
recommendable at once; their last component is the item's bias. Content is words, category and price as hashed columns,
texts as parts and pictures as thumbnails, the latter two through encoders that learn with the policy. It knows nothing
of slates or of what is allowed.

Untrained, it recommends what resembles, in words and looks, the items that a user liked: some of its units begin as a
fading mean of their vectors, which the queries read directly. That is where training starts from, so that little data
is enough to be of use (docs/policy.md has the figures).

Beside the actor's query there is the click model's, which says what a user would click of what he is shown, and the
critic's value. Shape suffixes: A items, V vector components, F content columns, N engagements or users, B sequences,
T time, X inputs, H hidden units.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.artifact import MOST_UNITS, BadModel, described_weights, with_weights
from models.engagements import ACTIONS
from models.item_content import ID_BUCKETS, ITEM_CONTENT, TEXT_BUCKETS
from models.item_table import ItemTable
from models.picture_encoder import PictureEncoder
from models.recurrence import gru_step, gru_steps
from models.tensor_file import tensor_file
from models.text_encoder import TextEncoder

FORMAT = "headgate-policy-2"
KIND = "policy"
ACTION_SIZE = 8
#: Columns beside item and action: value known, its logarithm, logarithm of the gap.
NUMBERS = 3
#: Seconds; a user's first engagement has a gap of this length.
LONGEST_GAP = 10 * 365 * 86_400.0
LARGEST_VALUE = 1e6
#: Spread of what untrained heads answer.
SPREAD = 0.1
#: How much an engagement with an item counts for the taste of an untrained network, and how much of the taste before
#: is kept.
TASTE = {"impression": 0.0, "click": 1.0, "like": 1.5, "dislike": -1.5, "skip": -0.3, "dwell": 0.5, "purchase": 2.0}
KEPT, KEPT_OF_IMPRESSION = 0.9, 0.995
#: What a match of taste and item counts in an untrained query.
LIKING = 4.0
#: Numbers that a text becomes.
TEXT_SIZE = 32
#: The last columns of item content say what it costs, which resembles nothing.
PRICE_COLUMNS = 2


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """content: columns of item content; hidden: GRU units; vector: components of an item vector, the last one is its
    bias; buckets: of ids, that share the learned part; text_buckets: of parts of texts, 0 for a network that reads no
    texts; pictures: it looks at them."""

    content: int = ITEM_CONTENT
    hidden: int = 64
    vector: int = 33
    buckets: int = ID_BUCKETS
    text_buckets: int = TEXT_BUCKETS
    pictures: bool = True

    @property
    def taste(self) -> int:
        """Units that begin as a fading mean of what the user liked."""
        return min(self.hidden, self.vector - 1)


class PolicyNetwork(nn.Module):
    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        self.from_id = nn.Embedding(config.buckets, config.vector)
        self.from_content = nn.Linear(config.content, config.vector)
        self.action_gain = nn.Embedding(len(ACTIONS), config.vector)
        self.action = nn.Embedding(len(ACTIONS), ACTION_SIZE)
        self.gru = nn.GRU(2 * config.vector + ACTION_SIZE + NUMBERS, config.hidden, batch_first=True)
        self.actor = _head(config.hidden, config.vector - 1)
        self.clicker = _head(config.hidden, config.vector - 1)
        self.none = _head(config.hidden, 1)
        self.critic = _head(config.hidden, 1)
        self.actor_liking = nn.Parameter(torch.full((config.taste,), LIKING))
        self.click_liking = nn.Parameter(torch.full((config.taste,), LIKING))
        self._begin()
        # After everything else, so that this begins the same with and without them.
        self.from_text = _text_vectors(config.text_buckets, config.vector) if config.text_buckets else None
        self.from_picture = PictureEncoder(config.vector) if config.pictures else None

    @torch.no_grad()
    def _begin(self) -> None:
        """The first units become a fading mean of the vectors of items, each weighed by what was done with it."""
        taste, vector, units = self.config.taste, self.config.vector, self.config.hidden
        nn.init.zeros_(self.from_id.weight)
        nn.init.normal_(self.from_content.weight)
        nn.init.zeros_(self.from_content.bias)
        self.from_content.weight[-1] = 0.0
        self.from_content.weight /= self.from_content.weight.norm(dim=0)
        if self.config.content > PRICE_COLUMNS:
            self.from_content.weight[:, -PRICE_COLUMNS:] = 0.0
        nn.init.eye_(self.action.weight)
        for place, name in enumerate(ACTIONS):
            nn.init.constant_(self.action_gain.weight[place], TASTE[name])
        gru: Any = self.gru
        from_input = gru.weight_ih_l0
        for part in range(3):
            for weights in (from_input, gru.weight_hh_l0, gru.bias_ih_l0, gru.bias_hh_l0):
                weights[part * units : part * units + taste] = 0.0
        keep, new = slice(units, units + taste), torch.arange(taste)
        gru.bias_ih_l0[keep] = math.log(KEPT / (1 - KEPT))
        more = math.log(KEPT_OF_IMPRESSION / (1 - KEPT_OF_IMPRESSION)) - math.log(KEPT / (1 - KEPT))
        from_input[keep, 2 * vector + ACTIONS.index("impression")] = more
        from_input[2 * units + new, vector + new] = 1.0

    @property
    def device(self) -> torch.device:
        return self.from_id.weight.device

    def item_vectors(self, items: ItemTable) -> Tensor:
        """[A, V]; each different picture is looked at once."""
        own_AV = self.from_id(items.bucket_A.clamp(min=0)) * (items.bucket_A >= 0)[:, None]
        vectors_AV = own_AV + self.from_content(items.content_AF)
        if self.from_text is not None and items.parts_AM is not None:
            vectors_AV = vectors_AV + self.from_text(items.parts_AM.long())
        if self.from_picture is not None and items.picture_A is not None and items.pixels_PX is not None:
            shown = items.picture_A >= 0
            pictures, which = torch.unique(items.picture_A[shown], return_inverse=True)
            vectors_AV = vectors_AV.index_add(
                0, shown.nonzero()[:, 0], self.from_picture(items.pixels_PX[pictures])[which]
            )
        return vectors_AV  # type: ignore[no-any-return]

    def inputs(self, vectors_NV: Tensor, action_N: Tensor, value_N: Tensor, gap_N: Tensor) -> Tensor:
        """[N, X] of one engagement each, or [B, T, X] of [B, T]. vectors: of the items, zero for unknown ones; action:
        places in ACTIONS; value: NaN for none; gap: seconds since the user's engagement before, NaN for his first."""
        known = value_N.isfinite()
        value = value_N.where(known, torch.zeros_like(value_N)).clamp(-LARGEST_VALUE, LARGEST_VALUE)
        gap = gap_N.nan_to_num(LONGEST_GAP, LONGEST_GAP, 0.0).clamp(0.0, LONGEST_GAP)
        numbers = [known.to(vectors_NV.dtype), value.sign() * value.abs().log1p() / 2, gap.log1p() / 10]
        weighed_NV = vectors_NV * self.action_gain(action_N)
        return torch.cat([vectors_NV, weighed_NV, self.action(action_N), torch.stack(numbers, -1)], dim=-1)

    def step(self, hidden_NH: Tensor, vectors_NV: Tensor, action_N: Tensor, value_N: Tensor, gap_N: Tensor) -> Tensor:
        """The users' states after one engagement each, [N, H]; a new user's state is zero."""
        return gru_step(self.gru, self.inputs(vectors_NV, action_N, value_N, gap_N), hidden_NH)

    def steps(self, x_NX: Tensor, wave_sizes: list[int], hidden_UH: Tensor) -> Tensor:
        """The states after each of N engagements of U users, [N, H]; waves as in recurrence.gru_steps."""
        return gru_steps(self.gru, x_NX, wave_sizes, hidden_UH)

    def states(self, x_BTX: Tensor, hidden_BH: Tensor | None = None) -> Tensor:
        """The states after each engagement of sequences, [B, T, H]."""
        after_BTH, _ = self.gru(x_BTX, None if hidden_BH is None else hidden_BH[None].contiguous())
        return after_BTH  # type: ignore[no-any-return]

    def query(self, hidden_NH: Tensor) -> Tensor:
        """The actor's, [N, V]: the policy's logits are query @ item_vectors.T."""
        return self._query(self.actor(hidden_NH), hidden_NH, self.actor_liking)

    def click_query(self, hidden_NH: Tensor) -> Tensor:
        """The click model's, [N, V]: of a slate, an item is clicked in proportion to exp(query @ vector), and none in
        proportion to exp(no_click)."""
        return self._query(self.clicker(hidden_NH), hidden_NH, self.click_liking)

    def no_click(self, hidden_NH: Tensor) -> Tensor:
        """[N]"""
        return self.none(hidden_NH)[..., 0]  # type: ignore[no-any-return]

    def value(self, hidden_NH: Tensor) -> Tensor:
        """The critic's, [N]: the discounted reward that is to come, in units of the return scale of training."""
        return self.critic(hidden_NH)[..., 0]  # type: ignore[no-any-return]

    def act_as_clicked(self) -> None:
        """The actor prefers what the click model says will be clicked, from where it is trained further."""
        self.actor.load_state_dict(self.clicker.state_dict())
        with torch.no_grad():
            self.actor_liking.copy_(self.click_liking)

    def _query(self, learned_N: Tensor, hidden_NH: Tensor, liking: Tensor) -> Tensor:
        liked = hidden_NH[..., : self.config.taste] * liking
        liked = functional.pad(liked, (0, self.config.vector - 1 - self.config.taste))
        return functional.pad(learned_N + liked, (0, 1), value=1.0)


def _text_vectors(buckets: int, vector: int) -> nn.Sequential:
    """Before training every vector is zero."""
    last = nn.Linear(TEXT_SIZE, vector)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(TextEncoder(buckets, TEXT_SIZE), last)


def _head(units: int, outputs: int) -> nn.Sequential:
    last = nn.Linear(units, outputs)
    nn.init.normal_(last.weight, std=SPREAD / math.sqrt(units))
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(units, units), nn.ReLU(), last)


class Description(msgspec.Struct, frozen=True):
    """What the file says beside the weights. Decoding refuses what is missing, of another type or not finite."""

    format: str
    config: PolicyConfig
    notes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TrainedPolicy:
    network: PolicyNetwork
    notes: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Safetensors for the weights, JSON for everything else. No pickle."""
        description = Description(FORMAT, self.network.config, dict(self.notes))
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        return tensor_file(tensors, description)

    @staticmethod
    def from_bytes(data: bytes) -> "TrainedPolicy":
        """Raises BadModel."""
        text, tensors = described_weights(data, "policy")
        try:
            found = msgspec.json.decode(text, type=_Kind).format
            if found != FORMAT:
                raise BadModel(f"format {found!r} is unknown, this version reads {FORMAT!r}")
            description = msgspec.json.decode(text, type=Description)
        except msgspec.MsgspecError as error:
            raise BadModel(f"the policy's description is wrong: {error}") from error
        config = description.config
        for part, units, least in (
            ("content columns", config.content, 1),
            ("hidden units", config.hidden, 1),
            ("vector components", config.vector, 2),
            ("buckets", config.buckets, 1),
            ("text buckets", config.text_buckets, 0),
        ):
            if not least <= units <= MOST_UNITS:
                raise BadModel(f"{units} {part} are not between {least} and {MOST_UNITS}")
        return TrainedPolicy(with_weights(lambda: PolicyNetwork(config), tensors), description.notes)


class _Kind(msgspec.Struct):
    """Read before the rest, which may differ between formats."""

    format: str
