"""What shoppers carry from one visit to the next: changed tastes, weariness of what they saw, purchases, their mood.

Weariness, satiation and mood fade with time; tastes stay where they were moved to. Every shopper's memory depends on
their own visits alone, so it does not matter how visits of different shoppers are cut into batches.
"""

import numpy as np
import numpy.typing as npt

from ops.simulate.payments import Floats, Int32s, Int64s
from ops.simulate.scenarios import DAY
from ops.simulate.shoppers.catalogue import Catalogue, Flags
from ops.simulate.shoppers.people import People
from ops.simulate.shoppers.words import CATEGORIES

NOTHING = -1
#: The last items that were seen and bought, by shopper.
SEEN_ITEMS, BOUGHT_ITEMS = 24, 16
WEARINESS_HALF_LIFE, SATIATION_HALF_LIFE, MOOD_HALF_LIFE = 0.5 * DAY, 3.0 * DAY, 5.0 * DAY
#: Lost attraction: by the logarithm of recent items of the category (in parts of so many), by each recent look at the
#: item itself, and for what one owns already.
CATEGORY_WEARINESS, ITEMS_TO_WEARY, ITEM_WEARINESS, OWNED = 0.9, 8.0, 0.7, 6.0
#: Of the category, after a purchase.
SATIATION = 2.5
#: How far a click moves the tastes, at the most.
CATEGORY_DRIFT, STYLE_DRIFT, LARGEST_TASTE = 0.05, 0.03, 3.0
#: How far a click moves the mood, and the bounds of it.
MOOD_MOVE, LARGEST_MOOD = 0.12, 1.5
MOOD_WEIGHT = 0.5


class Memory:
    """Of U shoppers. pace: days of a shopper's life that pass in one day."""

    def __init__(self, people: People, pace: float = 1.0) -> None:
        count = len(people)
        self.category_taste: Floats = people.category_taste.copy()
        self.style_taste: Floats = people.style_taste.copy()
        self.seen_by_category: Floats = np.zeros((count, len(CATEGORIES)))
        self.satiation: Floats = np.zeros((count, len(CATEGORIES)))
        self.mood: Floats = np.zeros(count)
        self._price_sensitivity = people.price_sensitivity
        self._seen: Int32s = np.full((count, SEEN_ITEMS), NOTHING, np.int32)
        self._bought: Int32s = np.full((count, BOUGHT_ITEMS), NOTHING, np.int32)
        self._last_at: Int64s = np.zeros(count, np.int64)
        self._pace = pace

    def fade(self, users: Int64s, at: Int64s) -> None:
        """Lets time pass for these (distinct) shoppers until `at`, epoch milliseconds; it never runs backwards."""
        passed = np.maximum(at - self._last_at[users], 0) * self._pace
        self._last_at[users] = np.maximum(at, self._last_at[users])
        self.seen_by_category[users] *= np.exp2(-passed / WEARINESS_HALF_LIFE)[:, None]
        self.satiation[users] *= np.exp2(-passed / SATIATION_HALF_LIFE)[:, None]
        self.mood[users] *= np.exp2(-passed / MOOD_HALF_LIFE)

    def affinity(self, catalogue: Catalogue, users: Int64s, items: Int32s) -> Floats:
        """float64[n, K]: what each of n shoppers thinks of each of K items, from category, styles and price."""
        who = users[:, None]
        by_style = np.einsum("ns,nks->nk", self.style_taste[users], catalogue.styles[items])
        price = self._price_sensitivity[users][:, None] * catalogue.relative_price[items]
        affinity: Floats = self.category_taste[who, catalogue.category[items]] + by_style - price
        return affinity

    def attraction(self, catalogue: Catalogue, users: Int64s, items: Int32s, affinity: Floats) -> Floats:
        """float64[n, K]: the affinity, the title's appeal and the mood, less what wears off with repetition."""
        who = users[:, None]
        looks = (self._seen[users][:, None, :] == items[:, :, None]).sum(axis=2)
        owned = (self._bought[users][:, None, :] == items[:, :, None]).any(axis=2)
        category = catalogue.category[items]
        weariness = CATEGORY_WEARINESS * np.log1p(self.seen_by_category[who, category] / ITEMS_TO_WEARY)
        lost = weariness + ITEM_WEARINESS * looks + OWNED * owned + 0.5 * self.satiation[who, category]
        attraction: Floats = affinity + catalogue.appeal[items] + MOOD_WEIGHT * self.mood[who] - lost
        return attraction

    def note_seen(self, catalogue: Catalogue, users: Int64s, items: Int32s, seen: Flags) -> None:
        """seen bool[n, K]: which of its items each (distinct) shopper looked at."""
        row, column = np.nonzero(seen)
        np.add.at(self.seen_by_category, (users[row], catalogue.category[items[row, column]]), 1.0)
        _remember(self._seen, users, items, seen)

    def note_clicks(
        self, catalogue: Catalogue, users: Int64s, items: Int32s, clicked: Flags, enjoyment: Floats
    ) -> None:
        """What pleased draws one further, what disappointed puts one off; and both change the mood."""
        row, column = np.nonzero(clicked)
        item, who = items[row, column], users[row]
        felt = np.tanh(enjoyment[row, column] / 2)
        np.add.at(self.category_taste, (who, catalogue.category[item]), CATEGORY_DRIFT * felt)
        np.add.at(self.style_taste, who, STYLE_DRIFT * felt[:, None] * catalogue.styles[item])
        np.add.at(self.mood, who, MOOD_MOVE * felt)
        for tastes in (self.category_taste, self.style_taste):
            tastes[users] = np.clip(tastes[users], -LARGEST_TASTE, LARGEST_TASTE)
        self.mood[users] = np.clip(self.mood[users], -LARGEST_MOOD, LARGEST_MOOD)

    def note_purchases(self, catalogue: Catalogue, users: Int64s, items: Int32s, bought: Flags) -> None:
        row, column = np.nonzero(bought)
        self.satiation[users[row], catalogue.category[items[row, column]]] += SATIATION
        _remember(self._bought, users, items, bought)


def _remember(ring: Int32s, users: Int64s, items: Int32s, chosen: npt.NDArray[np.bool_]) -> None:
    """Puts each shopper's chosen items in front of what the ring already holds."""
    rows = np.flatnonzero(chosen.any(axis=1))
    if len(rows):
        row, column = np.nonzero(chosen[rows])
        counts = chosen[rows].sum(axis=1)
        place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        width = ring.shape[1]
        old = ring[users[rows]]
        shifted = np.arange(width) - counts[:, None]
        new = np.where(shifted >= 0, np.take_along_axis(old, np.maximum(shifted, 0), axis=1), NOTHING)
        fits = place < width
        new[row[fits], place[fits]] = items[rows[row[fits]], column[fits]]
        ring[users[rows]] = new
