"""The measurement of what pictures and texts are worth for new items."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.item_content import Item
from models.train_policy import PolicyTrainingConfig
from ops.bench.cold_start.arms import ARMS, collect_history
from ops.bench.cold_start.command import WITH, WITHOUT, in_words, run_cold_start, summary
from ops.bench.cold_start.drawing import COLOURS, PATTERNS, draw
from ops.bench.cold_start.world import World, WorldConfig, make_world

SMALL = WorldConfig(items=30, new_items=20, shoppers=40)
SHORT = PolicyTrainingConfig(hidden=32, look_epochs=1, click_epochs=1, actor_epochs=1)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(SMALL)


def test_the_same_seed_draws_the_same_shop_and_another_one_another(world: World) -> None:
    again, other = make_world(SMALL), make_world(WorldConfig(30, 20, 40, seed=1))
    assert again.pictures == world.pictures
    assert again.items == world.items
    assert np.array_equal(again.attraction, world.attraction)
    assert other.pictures != world.pictures


@pytest.mark.parametrize("colour", ["red", "blue"])
def test_a_plain_picture_has_its_colour_in_the_middle(colour: str) -> None:
    data = draw(np.random.default_rng(7), PATTERNS.index("plain"), list(COLOURS).index(colour))
    middle = np.asarray(Image.open(io.BytesIO(data)))[24:40, 24:40].reshape(-1, 3).mean(0)
    assert middle.argmax() == ("red", "green", "blue").index(colour)


def test_new_items_are_on_sale_when_the_others_no_longer_are(world: World) -> None:
    before, after = world.on_sale(new=False), world.on_sale(new=True)
    assert [item.available for item in before] == [True] * 30 + [False] * 20
    assert [item.available for item in after] == [False] * 30 + [True] * 20


def test_policies_know_of_items_what_their_name_says(world: World) -> None:
    item = world.items[0]
    assert ARMS["pictures and texts"].sees(item) == item
    assert ARMS["texts"].sees(item) == Item(item.item_id, item.title, item.text)
    assert not ARMS["hashed words"].encoders


def test_the_history_has_the_exact_propensities_of_what_was_shown(world: World) -> None:
    visits = collect_history(world)
    history = visits.history(visits.recommender.catalogue.table())
    slates, picks = history.slates, history.slates.picks.astype(np.int64)
    assert len(slates) == 8 * SMALL.shoppers
    assert slates.reward.sum() > 0
    assert np.take_along_axis(slates.candidates, picks, 1).max() < SMALL.items
    assert np.isfinite(np.take_along_axis(slates.log_weights, picks, 1)).all()
    asking = [history.engagements.user_id[row] for row in history.cause.tolist()]
    assert asking == [f"user-{user}" for user in slates.user.tolist()]


@pytest.mark.slow
def test_it_measures_each_seed_and_draws_what_the_encoder_groups(tmp_path: Path) -> None:
    picture, seen = tmp_path / "groups.png", list[float]()
    found = run_cold_start(
        [3],
        lambda stage, done: seen.append(done),
        shop=SMALL,
        training=SHORT,
        arms=(WITH, WITHOUT),
        picture=picture,
    )
    assert found["reward_with"] == found["seeds"]["3"][WITH] > 0
    assert found["reward_without"] == found["arms"][WITHOUT] > 0
    assert seen == [0.0, 0.5, 1.0]
    with Image.open(picture) as drawn:
        assert drawn.format == "PNG"
    assert f"{found['ratio']:.2f} times" in in_words(found)


def test_the_ratio_is_of_the_means_over_the_seeds() -> None:
    found = summary({"0": {WITH: 3.0, WITHOUT: 1.0}, "1": {WITH: 1.0, WITHOUT: 1.0}})
    assert (found["reward_with"], found["reward_without"], found["ratio"]) == (2.0, 1.0, 2.0)
