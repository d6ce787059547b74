"""What shoppers do with what they see: tastes, position, weariness, satiation, bait, and luck by the visit's number."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.engagements import CLICK, DISLIKE, DWELL, IMPRESSION, LIKE, PURCHASE, SKIP, rewards
from ops.simulate.scenarios import DAY
from ops.simulate.shoppers.catalogue import AVAILABLE, UNAVAILABLE, Catalogue, draw_items
from ops.simulate.shoppers.memory import BOUGHT_ITEMS, NOTHING, SEEN_ITEMS
from ops.simulate.shoppers.people import People, draw_people
from ops.simulate.shoppers.policies import best_slates, by_earnings
from ops.simulate.shoppers.visits import Actions, Shoppers, normal

START = 1_790_000_000_000
USERS, ITEMS = 400, 300
goods: Catalogue = draw_items(
    np.random.default_rng(5), [f"item-{number}" for number in range(ITEMS)], np.zeros(ITEMS, np.int64)
)
people: People = draw_people(USERS, 5)
everybody = np.arange(USERS)


def shoppers(pace: float = 1.0) -> Shoppers:
    return Shoppers(goods, people, luck="test", pace=pace)


def at(milliseconds: int, count: int = USERS) -> Any:
    return np.full(count, START + milliseconds)


def numbers(round_: int, count: int = USERS) -> Any:
    return np.arange(count) + round_ * 10_000


def random_slates(seed: int, count: int = USERS, size: int = 6) -> Any:
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(ITEMS), (count, 1)), axis=1)
    return order[:, :size].astype(np.int32)


def rows(actions: Actions) -> list[tuple[Any, ...]]:
    return list(zip(*(np.nan_to_num(getattr(actions, f.name), nan=-1).tolist() for f in fields(Actions)), strict=True))


def clicks(actions: Actions) -> int:
    return int((actions.action == CLICK).sum())


def test_shoppers_earn_more_with_what_they_like_than_with_chance_and_least_with_what_they_dislike() -> None:
    scores = by_earnings(shoppers(), everybody, np.zeros(ITEMS), np.random.default_rng(0))
    slates = {
        "liked": best_slates(scores, shoppers(), START, 6),
        "random": random_slates(1),
        "disliked": best_slates(-scores, shoppers(), START, 6),
    }
    earned = {}
    for name, shown in slates.items():
        done = shoppers().visit(everybody, shown, at(0), numbers(0))
        earned[name] = rewards(done.action, done.value).sum() / USERS

    assert earned["liked"] > earned["random"] + 3
    assert earned["random"] > 0 > earned["disliked"]


def test_impressions_are_the_beginning_of_the_slate_and_rarer_further_down() -> None:
    done = shoppers().visit(everybody, random_slates(2), at(0), numbers(0))
    seen = done.action == IMPRESSION
    positions = [sorted(done.position[seen & (done.visit == visit)].tolist()) for visit in range(USERS)]
    counts = np.bincount(done.position[seen], minlength=6)

    assert all(each == list(range(len(each))) for each in positions)
    assert counts[0] == USERS
    assert (np.diff(counts) < 0).all()
    assert counts[5] > USERS / 4


def test_nobody_does_anything_with_an_item_that_they_have_not_seen() -> None:
    slates = random_slates(3)
    done = shoppers().visit(everybody, slates, at(0), numbers(0))
    seen = {(v, p) for v, p, a in zip(done.visit, done.position, done.action, strict=True) if a == IMPRESSION}

    assert {*zip(done.visit, done.position, strict=True)} == seen
    assert (slates[done.visit, done.position] == done.item).all()


def test_a_visit_happens_in_a_plausible_order() -> None:
    """Impression first, then a click; dwelling, opinions and purchases only after a click of the same item."""
    done = shoppers().visit(everybody, random_slates(4), at(0), numbers(0))
    order = np.lexsort((np.arange(len(done)), done.visit))
    assert (order == np.arange(len(done))).all()
    assert all((np.diff(done.after[done.visit == visit]) >= 0).all() for visit in range(USERS))
    first: dict[tuple[int, int, int], int] = {}
    for row, key in enumerate(zip(done.visit.tolist(), done.position.tolist(), done.action.tolist(), strict=True)):
        assert key not in first
        first[key] = row
    for (visit, position, action), row in first.items():
        if action != IMPRESSION:
            assert first[visit, position, IMPRESSION] < row
        if action in (DWELL, LIKE, PURCHASE):
            assert first[visit, position, CLICK] < row
        if action == SKIP:
            assert (visit, position, CLICK) not in first
            assert (visit, position, DISLIKE) not in first


def test_values_are_seconds_of_dwelling_and_prices_of_purchases() -> None:
    shop = shoppers()
    liked = best_slates(by_earnings(shop, everybody, np.zeros(ITEMS), np.random.default_rng(0)), shop, START, 6)
    done = shop.visit(everybody, liked, at(0), numbers(0))

    bought, dwelt = done.action == PURCHASE, done.action == DWELL
    assert bought.sum() > 20
    assert (done.value[bought] == goods.price[done.item[bought]]).all()
    assert ((done.value[dwelt] >= 1) & (done.value[dwelt] <= 600)).all()
    assert np.isnan(done.value[~bought & ~dwelt]).all()


def test_bait_is_clicked_more_and_disappoints() -> None:
    shown = {True: np.flatnonzero(goods.bait), False: np.flatnonzero(~goods.bait)}
    found = {}
    for bait, items in shown.items():
        slates = np.random.default_rng(6).choice(items, (USERS, 1)).astype(np.int32)
        done = shoppers().visit(everybody, slates, at(0), numbers(0))
        after_click = np.isin(done.visit, done.visit[done.action == CLICK])
        found[bait] = (
            clicks(done),
            float(np.median(done.value[done.action == DWELL])),
            (after_click & (done.action == DISLIKE)).sum() / clicks(done),
            rewards(done.action, done.value).sum(),
        )

    assert found[True][0] > 1.5 * found[False][0]
    assert found[True][1] < 0.5 * found[False][1]
    assert found[True][2] > 2 * found[False][2]
    assert found[True][3] < found[False][3]


def test_the_same_items_again_and_again_are_clicked_less_and_after_a_rest_more_again() -> None:
    shop, slates = shoppers(), random_slates(7)
    other = random_slates(8)
    by_round = [clicks(shop.visit(everybody, slates, at(each * 60_000), numbers(each))) for each in range(5)]
    for each in range(8):  # other items drive these out of mind
        shop.visit(everybody, np.roll(other, each, axis=0), at((5 + each) * 60_000), numbers(10 + each))
    rested = clicks(shop.visit(everybody, slates, at(20 * DAY), numbers(20)))

    assert by_round[4] < 0.5 * by_round[0]
    assert rested > 1.3 * by_round[4]


def test_a_category_seen_too_often_tires_even_with_items_never_seen() -> None:
    category = int(np.bincount(goods.category).argmax())
    inside = np.flatnonzero((goods.category == category) & ~goods.bait).astype(np.int32)
    shown, fresh = inside[: len(inside) // 2], inside[len(inside) // 2 :]
    tired, rested = shoppers(), shoppers()
    for each in range(6):
        tired.visit(everybody, np.tile(shown, (USERS, 1)), at(each * 60_000), numbers(each))
    tired.memory.category_taste[:] = people.category_taste
    tired.memory.style_taste[:] = people.style_taste
    tired.memory.mood[:] = tired.memory.satiation[:] = 0
    slates = np.tile(fresh, (USERS, 1))

    assert clicks(tired.visit(everybody, slates, at(400_000), numbers(9))) < 0.8 * clicks(
        rested.visit(everybody, slates, at(400_000), numbers(9))
    )


def test_after_a_purchase_the_item_and_its_category_interest_less() -> None:
    shop = shoppers()
    slates = np.tile(np.arange(6, dtype=np.int32), (USERS, 1))
    bought = np.zeros((USERS, 6), bool)
    bought[:, 0] = True
    affinity = shop.memory.affinity(goods, everybody, slates)
    before = shop.memory.attraction(goods, everybody, slates, affinity)
    shop.memory.note_purchases(goods, everybody, slates, bought)
    after = shop.memory.attraction(goods, everybody, slates, affinity)
    same = goods.category[:6] == goods.category[0]

    assert (after[:, 0] < before[:, 0] - 5).all()
    assert (after[:, same] < before[:, same] - 1).all()
    assert np.array_equal(after[:, ~same], before[:, ~same])


def test_tastes_drift_to_what_pleases_and_away_from_what_disappoints() -> None:
    shop = shoppers()
    slates = np.zeros((USERS, 1), np.int32)
    clicked = np.ones((USERS, 1), bool)
    felt = np.where(np.arange(USERS)[:, None] % 2 == 0, 3.0, -3.0)
    shop.memory.note_clicks(goods, everybody, slates, clicked, felt)
    moved = shop.memory.category_taste - people.category_taste
    own = moved[:, goods.category[0]]
    bounded = np.abs(people.category_taste[:, goods.category[0]]) < 2.9

    assert (own[::2][bounded[::2]] > 0.03).all()
    assert (own[1::2][bounded[1::2]] < -0.03).all()
    assert (shop.memory.mood[::2] > 0).all()
    assert (shop.memory.mood[1::2] < 0).all()


def test_what_is_out_of_stock_is_not_bought() -> None:
    shop = shoppers()
    scores = by_earnings(shop, everybody, np.zeros(ITEMS), np.random.default_rng(0))
    out = np.flatnonzero(goods.states(START) == UNAVAILABLE)
    order = out[np.argsort(-scores[:, out], axis=1)][:, :6].astype(np.int32)
    bought = 0
    for each in range(20):
        done = shoppers().visit(everybody, order, at(0), numbers(each))
        assert (done.action == CLICK).any()
        bought += (done.action == PURCHASE).sum()

    assert bought == 0


def test_searches_find_what_is_offered_and_to_ones_taste_without_impressions() -> None:
    shop = shoppers()
    shop.refresh_stock(START)
    done = shop.visit(everybody, None, at(0), numbers(0))
    taste = people.category_taste[done.visit, goods.category[done.item]]

    assert set(np.unique(done.action).tolist()) <= {CLICK, LIKE, DISLIKE, DWELL, PURCHASE}
    assert (goods.states(START)[done.item] == AVAILABLE).all()
    assert taste.mean() > people.category_taste.mean() + 1
    of_one = [(v, i) for v, i, a in zip(done.visit, done.item, done.action, strict=True) if a == CLICK]
    assert len(set(of_one)) == len(of_one)


def test_an_empty_place_in_a_slate_is_nothing() -> None:
    slates = random_slates(9)
    slates[:, 1] = NOTHING
    done = shoppers().visit(everybody, slates, at(0), numbers(0))

    assert not (done.position == 1).any()
    assert (done.position == 2).any()
    assert (done.item >= 0).all()
    nothing = shoppers().visit(everybody, np.full((USERS, 3), NOTHING, np.int32), at(0), numbers(0))
    assert len(nothing) == 0


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, USERS - 1), max_size=5), st.integers(0, 2**31))
def test_the_same_visits_make_the_same_engagements_however_they_are_cut(cuts: list[int], first: int) -> None:
    whole, cut = shoppers(), shoppers()
    for each in range(3):
        slates, number = random_slates(each), np.arange(USERS) + first + each * USERS
        expected = rows(whole.visit(everybody, slates, at(each * DAY), number))
        found = []
        for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), USERS], strict=True):
            part = slice(begin, end)
            done = cut.visit(everybody[part], slates[part], at(each * DAY)[part], number[part])
            found += [(visit + begin, *rest) for visit, *rest in rows(done)]
        assert found == expected


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=12))
def test_the_last_seen_and_bought_items_are_remembered(choices: list[list[bool]]) -> None:
    shop = shoppers()
    seen: list[int] = []
    for each, chosen in enumerate(choices):
        items = ((each * 6 + np.arange(6, dtype=np.int32)) % ITEMS)[None]
        shop.memory.note_seen(goods, np.array([7]), items, np.array([chosen]))
        shop.memory.note_purchases(goods, np.array([7]), items, np.array([chosen]))
        seen = [*items[0][chosen].tolist(), *seen]
    for ring, length in ((shop.memory._seen, SEEN_ITEMS), (shop.memory._bought, BOUGHT_ITEMS)):
        expected = (seen + [NOTHING] * length)[:length]
        assert ring[7].tolist() == expected
        assert (ring[8] == NOTHING).all()


def test_at_a_pace_half_lives_pass_sooner() -> None:
    slow, fast = shoppers(), shoppers(pace=100.0)
    for shop in (slow, fast):
        shop.visit(everybody, random_slates(1), at(0), numbers(0))
    slow.memory.fade(everybody, at(DAY))
    fast.memory.fade(everybody, at(DAY // 100))

    assert slow.memory.seen_by_category == pytest.approx(fast.memory.seen_by_category)
    assert 0.9 < slow.memory.seen_by_category.sum() / (USERS * 4.4 / 4) < 1.1


def test_normal_draws_are_standard_normal() -> None:
    draws = np.random.default_rng(0).random((2, 100_000))
    made = normal(*draws)

    assert made.mean() == pytest.approx(0, abs=0.02)
    assert made.std() == pytest.approx(1, abs=0.02)
    assert np.isfinite(normal(np.zeros(1), np.zeros(1))).all()
