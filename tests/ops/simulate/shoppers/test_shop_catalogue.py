"""What there is to buy: texts that say what an item is, bait, stock, and items that come along."""

import numpy as np

from ops.simulate.scenarios import DAY
from ops.simulate.shoppers.assortment import history_catalogue, live_catalogue
from ops.simulate.shoppers.catalogue import ABSENT, AVAILABLE, UNAVAILABLE, Catalogue, draw_items
from ops.simulate.shoppers.words import BAIT_TITLES, CATEGORIES, STYLES

START = 1_790_000_000_000
ITEMS = 600


def drawn(seed: int = 1) -> Catalogue:
    ids = [f"item-{number}" for number in range(ITEMS)]
    return draw_items(np.random.default_rng(seed), ids, np.zeros(ITEMS, np.int64))


goods = drawn()


def test_the_same_seed_draws_the_same_items_and_another_does_not() -> None:
    again, other = drawn(), drawn(2)

    assert (goods.titles, goods.texts) == (again.titles, again.texts)
    assert np.array_equal(goods.quality, again.quality)
    assert goods.texts != other.texts


def test_no_word_belongs_to_two_categories_or_to_a_category_and_a_style() -> None:
    by_category = [{*category.nouns, *category.words} for category in CATEGORIES]
    by_style = [set(style.words) for style in STYLES]
    groups = [*by_category, *by_style]

    assert sum(map(len, groups)) == len(set().union(*groups))


def test_title_and_text_say_of_which_category_and_style_an_item_is() -> None:
    rows = zip(goods.titles, goods.texts, goods.category.tolist(), goods.styles, goods.bait.tolist(), strict=True)
    for title, text, category, styles, bait in rows:
        words = set(text.split())
        own = [place for place, each in enumerate(CATEGORIES) if words & set(each.words)]
        assert own == [category]
        assert [place for place, each in enumerate(STYLES) if words & set(each.words)] == np.flatnonzero(
            styles
        ).tolist()
        assert any(noun in title for noun in CATEGORIES[category].nouns)
        assert bait or title.startswith(STYLES[int(styles.argmax())].first)


def test_bait_attracts_and_disappoints_and_its_title_betrays_it() -> None:
    starts = tuple(title.split()[0] for title in BAIT_TITLES)

    assert 0.03 < goods.bait.mean() < 0.1
    assert [title.startswith(starts) for title in goods.titles] == goods.bait.tolist()
    assert goods.appeal[goods.bait].mean() > goods.appeal[~goods.bait].mean() + 1
    assert goods.quality[goods.bait].mean() < goods.quality[~goods.bait].mean() - 2


def test_prices_are_around_their_categorys_in_whole_cents() -> None:
    for number, category in enumerate(CATEGORIES):
        prices = goods.price[goods.category == number]
        assert 0.6 < np.median(prices) / category.median < 1.6
    assert (np.rint(goods.price * 100) / 100 == goods.price).all()
    assert goods.price.min() > 0


def test_an_item_is_out_of_stock_one_twentieth_of_its_time_for_hours_at_a_time() -> None:
    hours = START + np.arange(0, 60 * DAY, DAY // 24)
    states = np.array([goods.states(int(at)) for at in hours])

    assert set(np.unique(states)) == {AVAILABLE, UNAVAILABLE}
    assert 0.04 < (states == UNAVAILABLE).mean() < 0.06
    assert 3 * 60 / 15 < (np.diff(states.astype(int), axis=0) != 0).sum(axis=0).mean() < 2 * 60 / 5 + 1


def test_a_tenth_of_a_historys_items_appear_within_it() -> None:
    catalogue = history_catalogue(200, 3, START, START + 10 * DAY)
    present = [(catalogue.states(START + day * DAY) != ABSENT).sum() for day in (0, 5, 10)]

    assert present == [180, 190, 200]


def test_live_items_continue_a_history_and_new_ones_of_the_run_come_along() -> None:
    before = history_catalogue(200, 3, START - DAY, START)
    live = live_catalogue(200, 3, "live1", START, pace=1_000.0)
    present = [(live.states(START + minute * 60_000) != ABSENT).sum() for minute in (0, 5)]

    assert live.item_ids[:200] == before.item_ids
    assert live.texts[:200] == before.texts
    assert present[0] == 200 < present[1] == 200 + int(5 * 60_000 * 1_000 * 200 * 0.02 / DAY)
    assert len(set(live.item_ids)) == len(live) == 300
    assert not set(live.item_ids[200:]) & set(live_catalogue(200, 3, "live2", START, pace=1.0).item_ids[200:])
