"""What there is to buy: items with texts, prices, quality and a time at which they appear, drawn once from a seed.

An item belongs to one category and has one or two styles, and its title and text say so. Some are bait: their titles
attract everybody, and they disappoint. Items run out of stock for a while and come back. Time comes from the caller.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from ops.simulate.payments import Floats, Int8s, Int32s, Int64s
from ops.simulate.scenarios import DAY
from ops.simulate.shoppers.words import BAIT_TITLES, CATEGORIES, FILLERS, STYLES

Flags = npt.NDArray[np.bool_]

BAIT_SHARE = 0.06
#: What bait adds to an item's attraction and takes from its quality.
BAIT_APPEAL, BAIT_QUALITY = 1.6, -2.5
TWO_STYLES_SHARE = 0.5
PRICE_SPREAD = 0.5
CATEGORY_WORDS, STYLE_WORDS, FILLER_WORDS = 4, 3, 3
#: An item is out of stock for this share of its time, once in so many days.
OUT_OF_STOCK_SHARE = 0.05
STOCK_DAYS = (5.0, 15.0)
#: States of an item.
ABSENT, AVAILABLE, UNAVAILABLE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Catalogue:
    """M items. category int8[M]; styles float64[M, STYLES]: how much an item has of each; price: in euros, whole cents;
    relative_price: logarithm of the price over its category's usual one; appeal: what attracts everybody; quality: what
    pleases everybody; popularity: weight in organic visits; appears_at int64[M] (epoch milliseconds);
    stock_cycle int64[M] (milliseconds) and stock_phase: when it is out of stock."""

    item_ids: tuple[str, ...]
    titles: tuple[str, ...]
    texts: tuple[str, ...]
    category: Int8s
    styles: Floats
    price: Floats
    relative_price: Floats
    appeal: Floats
    quality: Floats
    popularity: Floats
    bait: Flags
    appears_at: Int64s
    stock_cycle: Int64s
    stock_phase: Floats

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def categories(self) -> list[str]:
        return [CATEGORIES[each].name for each in self.category.tolist()]

    def in_stock(self, items: Int32s, at: Int64s) -> Flags:
        """Whether each can be bought at its time (epoch milliseconds); shapes are broadcast."""
        through_cycle = (at % self.stock_cycle[items]) / self.stock_cycle[items]
        stocked: Flags = (through_cycle + self.stock_phase[items]) % 1.0 >= OUT_OF_STOCK_SHARE
        return stocked

    def states(self, at: int) -> Int8s:
        """int8[M]: ABSENT, AVAILABLE or UNAVAILABLE."""
        every = np.arange(len(self), dtype=np.int32)
        stocked = self.in_stock(every, np.array(at, np.int64))
        return np.where(self.appears_at > at, ABSENT, np.where(stocked, AVAILABLE, UNAVAILABLE)).astype(np.int8)

    @staticmethod
    def concatenate(parts: Sequence["Catalogue"]) -> "Catalogue":
        columns: dict[str, Any] = {}
        for field in fields(Catalogue):
            values = [getattr(part, field.name) for part in parts]
            is_text = isinstance(values[0], tuple)
            columns[field.name] = tuple(text for each in values for text in each) if is_text else np.concatenate(values)
        return Catalogue(**columns)


def draw_items(
    generator: np.random.Generator, item_ids: Sequence[str], appears_at: Int64s, pace: float = 1.0
) -> Catalogue:
    """One item for each id. pace: days of an item's life that pass in one day."""
    count = len(item_ids)
    category = generator.integers(0, len(CATEGORIES), count)
    main = generator.integers(0, len(STYLES), count)
    second = (main + generator.integers(1, len(STYLES), count)) % len(STYLES)
    styles = np.zeros((count, len(STYLES)))
    styles[np.arange(count), main] = 1.0
    two = np.flatnonzero(generator.random(count) < TWO_STYLES_SHARE)
    styles[two, second[two]] = 0.6
    bait = generator.random(count) < BAIT_SHARE
    relative_price = generator.normal(0.0, PRICE_SPREAD, count)
    median = np.array([each.median for each in CATEGORIES])[category]
    quality = generator.normal(0.0, 0.5, count) + bait * BAIT_QUALITY
    appeal = generator.normal(0.0, 0.3, count) + bait * BAIT_APPEAL
    rows = list(zip(category.tolist(), main.tolist(), second.tolist(), bait.tolist(), strict=True))
    return Catalogue(
        item_ids=tuple(item_ids),
        titles=tuple(_title(generator, *row) for row in rows),
        texts=tuple(_text(generator, *row[:3], styles[place, row[2]] > 0) for place, row in enumerate(rows)),
        category=category.astype(np.int8),
        styles=styles,
        price=np.maximum(np.rint(median * np.exp(relative_price) * 100), 1) / 100,
        relative_price=relative_price,
        appeal=appeal,
        quality=quality,
        popularity=np.exp(generator.normal(0.0, 1.0, count) + 0.5 * appeal),
        bait=bait,
        appears_at=appears_at,
        stock_cycle=np.ceil(generator.uniform(*STOCK_DAYS, count) * DAY / pace).astype(np.int64),
        stock_phase=generator.random(count),
    )


def _title(generator: np.random.Generator, category: int, main: int, second: int, bait: bool) -> str:
    noun = _some(generator, CATEGORIES[category].nouns, 1)[0]
    if bait:
        return _some(generator, BAIT_TITLES, 1)[0].format(noun=noun)
    return f"{STYLES[main].first} {noun}"


def _text(generator: np.random.Generator, category: int, main: int, second: int, two_styles: bool) -> str:
    words = [
        *_some(generator, CATEGORIES[category].words, CATEGORY_WORDS),
        *_some(generator, STYLES[main].words, STYLE_WORDS),
        *_some(generator, STYLES[second].words if two_styles else FILLERS, STYLE_WORDS - 1),
        *_some(generator, FILLERS, FILLER_WORDS),
    ]
    return " ".join(words)


def _some(generator: np.random.Generator, words: tuple[str, ...], count: int) -> list[str]:
    return [words[place] for place in generator.choice(len(words), count, replace=False).tolist()]
