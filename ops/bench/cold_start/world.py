"""A shop whose shoppers care for how an item looks and for what its words say, each for something else."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.item_content import Item
from models.pictures import thumbnail
from ops.bench.cold_start.drawing import COLOURS, PATTERNS, draw

Floats = npt.NDArray[np.float64]

#: What items are about; each has words of several languages for it, of which an item has some.
SUBJECTS = (
    ("wool", "knitted", "warm", "Wolle", "gestrickt", "шерсть", "羊毛"),
    ("glass", "clear", "fragile", "Glas", "zerbrechlich", "стекло", "玻璃"),
    ("garden", "plants", "outdoor", "Garten", "Pflanzen", "сад", "花园"),
    ("music", "songs", "listen", "Musik", "Lieder", "музыка", "音乐"),
    ("travel", "light", "foldable", "Reise", "faltbar", "поездка", "旅行"),
    ("kitchen", "cooking", "steel", "Küche", "kochen", "кухня", "厨房"),
)
FILLERS = (
    "new",
    "small",
    "large",
    "classic",
    "everyday",
    "simple",
    "daily",
    "special",
    "set",
    "two",
    "original",
    "fine",
)
WORDS_OF_SUBJECT, WORDS_BESIDE = 3, 4
#: How far shoppers differ in what they think of patterns, colours and subjects (in logits), and items in quality.
PATTERN_TASTE, COLOUR_TASTE, SUBJECT_TASTE, QUALITY = 1.5, 1.2, 0.8, 0.3
#: Logit of a click on an item that a shopper is indifferent to.
INDIFFERENT = -3.0


@dataclass(frozen=True, slots=True)
class WorldConfig:
    """items: those with a history; new_items: those that come later."""

    items: int = 500
    new_items: int = 300
    shoppers: int = 800
    seed: int = 0


@dataclass(frozen=True, slots=True)
class World:
    """M items, the new ones last: pattern, colour and subject int64[M], pictures as PNG; attraction float64[shoppers,
    M]: logit of a click."""

    config: WorldConfig
    items: list[Item]
    pictures: list[bytes]
    pattern: npt.NDArray[np.int64]
    colour: npt.NDArray[np.int64]
    subject: npt.NDArray[np.int64]
    attraction: Floats

    def on_sale(self, *, new: bool) -> list[Item]:
        """All items, of which only the new ones, or only the others, are available."""
        count = self.config.items
        return [replace(item, available=(row >= count) == new) for row, item in enumerate(self.items)]


def make_world(config: WorldConfig) -> World:
    rng, count = np.random.default_rng(config.seed), config.items + config.new_items
    pattern, colour, subject = (rng.integers(0, n, count) for n in (len(PATTERNS), len(COLOURS), len(SUBJECTS)))
    pictures = [draw(rng, *look) for look in zip(pattern.tolist(), colour.tolist(), strict=True)]
    items = [
        Item(f"item-{row:04}", _title(rng, about), _text(rng, about), thumbnail=thumbnail(picture))
        for row, (about, picture) in enumerate(zip(subject.tolist(), pictures, strict=True))
    ]
    tastes = zip((PATTERN_TASTE, COLOUR_TASTE, SUBJECT_TASTE), (pattern, colour, subject), strict=True)
    attraction = INDIFFERENT + rng.normal(0, QUALITY, count)[None, :].repeat(config.shoppers, 0)
    for strength, kind in tastes:
        attraction += rng.normal(0, strength, (config.shoppers, int(kind.max()) + 1))[:, kind]
    return World(config, items, pictures, pattern, colour, subject, attraction)


def _title(rng: np.random.Generator, subject: int) -> str:
    return f"{rng.choice(FILLERS)} {rng.choice(SUBJECTS[subject])}"


def _text(rng: np.random.Generator, subject: int) -> str:
    words = [*rng.choice(SUBJECTS[subject], WORDS_OF_SUBJECT), *rng.choice(FILLERS, WORDS_BESIDE, replace=False)]
    return " ".join(rng.permutation(words).tolist())
