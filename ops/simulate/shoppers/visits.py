"""Visits: shoppers look at a slate, or search by themselves, and what they do follows from their tastes and memory.

A shopper looks at a slate from the top and gives up somewhere, so later positions are seen less often; what is seen
is an impression. Every visit has a number, and its luck follows from the seed and that number: the same visits make
the same engagements however they are cut into batches.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.engagements import CLICK, DISLIKE, DWELL, IMPRESSION, LIKE, PURCHASE, SKIP
from ops.simulate.labels import chance
from ops.simulate.payments import Floats, Int8s, Int32s, Int64s
from ops.simulate.shoppers import responses
from ops.simulate.shoppers.catalogue import AVAILABLE, Catalogue, Flags
from ops.simulate.shoppers.memory import NOTHING, Memory
from ops.simulate.shoppers.people import People
from ops.simulate.shoppers.words import CATEGORIES

#: Items that a search turns up.
FOUND = 4
MOST_POSITIONS = 64
#: Seconds: to look at an item, from a look to a click, from the end of the dwelling to a purchase.
LOOK, TO_CLICK, TO_PURCHASE = 1.5, 1.0, 10.0
#: Independent draws for each position.
DRAWS = 13


@dataclass(frozen=True, slots=True)
class Actions:
    """m actions of n visits, in the order of visits, then time. visit: rows of the visits; position: in the slate;
    value: seconds of a dwell, price of a purchase, else NaN; after: milliseconds since the visit began."""

    visit: Int64s
    position: Int8s
    item: Int32s
    action: Int8s
    value: Floats
    after: Int64s

    def __len__(self) -> int:
        return len(self.visit)


@dataclass(frozen=True, slots=True)
class _Looks:
    """What n visits found at K positions each, all [n, K]: items, what was seen, and what they felt and did."""

    items: Int32s
    seen: Flags
    clicked: Flags
    liked: Flags
    disliked: Flags
    bought: Flags
    skipped: Flags
    dwell: Floats


class Shoppers:
    """Everybody who shops, and what they remember. pace: days of their life that pass in one day."""

    def __init__(self, catalogue: Catalogue, people: People, *, luck: str, pace: float = 1.0) -> None:
        """luck: a text from which all chances follow; with a seed and a run in it, runs differ."""
        self.catalogue = catalogue
        self.people = people
        self.memory = Memory(people, pace)
        self._luck = luck
        self._pace = pace
        self._stock_at: int | None = None

    def visit(self, users: Int64s, slates: Int32s | None, at: Int64s, number: Int64s) -> Actions:
        """Visits of n distinct shoppers at `at` (epoch milliseconds), none before their last one.

        slates int32[n, K]: rows of the catalogue, -1 for none (or an item that nobody knows); without slates they
        search by themselves, among what refresh_stock() last found. number: of each visit, unique."""
        luck = self._draws(number, FOUND if slates is None else slates.shape[1])
        self.memory.fade(users, at)
        items = self._search(users, luck) if slates is None else slates
        looks = self._look(users, items, at, luck, searched=slates is None)
        self.memory.note_seen(self.catalogue, users, looks.items, looks.seen)
        return self._actions(looks, impressions=slates is not None)

    def refresh_stock(self, at: int) -> None:
        """Takes note of what is offered at this time (epoch milliseconds): what searches can find."""
        if at != self._stock_at:
            self._stock_at = at
            catalogue = self.catalogue
            offered = np.flatnonzero(catalogue.states(at) == AVAILABLE)
            order = np.lexsort((offered, catalogue.category[offered]))
            self._offered = offered[order].astype(np.int32)
            self._edges = np.searchsorted(catalogue.category[self._offered], np.arange(len(CATEGORIES) + 1))
            self._cumulated = np.concatenate([[0.0], np.cumsum(catalogue.popularity[self._offered])])

    def _draws(self, number: Int64s, positions: int) -> Floats:
        """[n, K, DRAWS], even in [0, 1)."""
        assert positions <= MOST_POSITIONS, f"a slate has at most {MOST_POSITIONS} positions"
        at = number[:, None] * MOST_POSITIONS + np.arange(positions)
        return chance(self._luck, (at[:, :, None] * DRAWS + np.arange(DRAWS)).reshape(-1)).reshape(*at.shape, DRAWS)

    def _search(self, users: Int64s, luck: Floats) -> Int32s:
        """A category to everybody's taste for each position, and one of its popular items. Nothing is found in a
        category without items, nor twice."""
        assert self._stock_at is not None, "searches need refresh_stock()"
        taste = self.memory.category_taste[users]
        weight = np.cumsum(np.exp(taste - taste.max(axis=1, keepdims=True)), axis=1)
        category = (luck[:, :, 0, None] * weight[:, None, -1:] >= weight[:, None, :]).sum(axis=2)
        first, stop = self._edges[category], self._edges[category + 1]
        low, high = self._cumulated[first], self._cumulated[stop]
        place = np.searchsorted(self._cumulated, low + luck[:, :, 1] * (high - low), side="right") - 1
        place = np.clip(place, first, np.maximum(stop - 1, first))
        found = np.where(stop > first, np.append(self._offered, NOTHING)[place], NOTHING).astype(np.int32)
        for position in range(1, found.shape[1]):
            again = (found[:, :position] == found[:, position : position + 1]).any(axis=1)
            found[again, position] = NOTHING
        return found

    def _look(self, users: Int64s, items: Int32s, at: Int64s, luck: Floats, *, searched: bool) -> _Looks:
        catalogue, memory = self.catalogue, self.memory
        shown = items != NOTHING
        patient = luck[:, :, 2] < self.people.patience[users][:, None]
        patient[:, 0] = True  # everybody looks at the first
        seen = shown & np.logical_and.accumulate(patient, axis=1)
        affinity = memory.affinity(catalogue, users, items)
        attraction = memory.attraction(catalogue, users, items, affinity)
        click_chance = (responses.found_click_chance if searched else responses.click_chance)(attraction)
        clicked = seen & (luck[:, :, 3] < click_chance)
        enjoyment = affinity + catalogue.quality[items]
        enjoyment += responses.ENJOYMENT_SPREAD * normal(luck[:, :, 4], luck[:, :, 5])
        satiation = memory.satiation[users[:, None], catalogue.category[items]]
        in_stock = catalogue.in_stock(items, at[:, None])
        dismissed = seen & ~clicked & (luck[:, :, 10] < responses.dismiss_chance(affinity)) & (not searched)
        skipped = seen & ~clicked & ~dismissed & (luck[:, :, 11] < responses.skip_chance(attraction))
        disliked = clicked & (luck[:, :, 8] < responses.dislike_chance(enjoyment))
        liked = clicked & ~disliked & (luck[:, :, 7] < responses.like_chance(enjoyment))
        wanted = luck[:, :, 9] < responses.purchase_chance(enjoyment, satiation)
        bought = clicked & ~disliked & in_stock & wanted
        memory.note_clicks(catalogue, users, items, clicked, enjoyment)
        memory.note_purchases(catalogue, users, items, bought)
        dwell = responses.dwell_seconds(enjoyment, normal(luck[:, :, 6], luck[:, :, 12]))
        return _Looks(items, seen, clicked, liked, disliked | dismissed, bought, skipped & (not searched), dwell)

    def _actions(self, looks: _Looks, *, impressions: bool) -> Actions:
        """Each position takes its time: looking, dwelling, buying; then comes the next."""
        dwell = np.where(looks.clicked, looks.dwell, 0.0)
        spent = looks.seen * LOOK + looks.clicked * TO_CLICK + dwell + looks.bought * TO_PURCHASE
        begins = np.cumsum(spent, axis=1) - spent
        ends = begins + np.where(looks.clicked, TO_CLICK + dwell, LOOK)
        price = self.catalogue.price[looks.items]
        nothing = np.full(dwell.shape, np.nan)
        seconds = np.rint(dwell * 10) / 10
        kinds: list[tuple[int, Flags, Floats, Floats]] = [
            (IMPRESSION, looks.seen & impressions, begins, nothing),
            (CLICK, looks.clicked, begins + TO_CLICK, nothing),
            (LIKE, looks.liked, begins + TO_CLICK + 0.7 * dwell, nothing),
            (DISLIKE, looks.disliked, begins + np.where(looks.clicked, TO_CLICK + 0.9 * dwell, TO_CLICK), nothing),
            (SKIP, looks.skipped, ends, nothing),
            (DWELL, looks.clicked, ends, seconds),
            (PURCHASE, looks.bought, ends + TO_PURCHASE, price),
        ]
        parts = [(np.nonzero(happened), action, after, value) for action, happened, after, value in kinds]
        visit, position = (np.concatenate([where[axis] for where, *_ in parts]) for axis in (0, 1))
        action = np.repeat([action for _, action, _, _ in parts], [len(where[0]) for where, *_ in parts])
        after = np.concatenate([after[where] for where, _, after, _ in parts])
        value = np.concatenate([value[where] for where, _, _, value in parts])
        order = np.lexsort((action, after, visit))
        return Actions(
            visit=visit[order],
            position=position[order].astype(np.int8),
            item=looks.items[visit[order], position[order]],
            action=action[order].astype(np.int8),
            value=value[order],
            after=np.rint(after[order] * 1000).astype(np.int64),
        )


def normal(first: Floats, second: Floats) -> Floats:
    """Standard normal draws from two even ones (Box and Muller, 1958)."""
    result: npt.NDArray[np.float64] = np.sqrt(-2.0 * np.log1p(-first)) * np.cos(2.0 * np.pi * second)
    return result
