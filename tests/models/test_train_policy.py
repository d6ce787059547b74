"""Training on stored feedback: it earns more than what it learnt from, ends in time, repeats exactly, and says what a
history lacks."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from models.item_content import ID_BUCKETS
from models.pictures import SIDE
from models.policy import TrainedPolicy
from models.policy_history import PolicyHistory, PolicyTrainingRefused
from models.train_policy import PolicyTrainingConfig, PolicyTrainingResult, train_policy
from tests.models.policy_shop import BUCKETS, earned_by, history_of, shop_log

CONFIG = PolicyTrainingConfig(hidden=32, click_epochs=3, actor_epochs=2)
LOG = shop_log(users=24, visits=12, seed=1)
HISTORY = history_of(LOG)
PICTURES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, SIDE * SIDE * 3), np.uint8))
#: Every other item has one of four pictures.
PICTURED = replace(
    HISTORY,
    items=replace(
        HISTORY.items,
        picture_A=torch.tensor([row // 2 % 4 if row % 2 else -1 for row in range(len(HISTORY.items.bucket_A))]),
        pixels_PX=PICTURES,
    ),
)


def silent(stage: str, share: float) -> None:
    pass


@pytest.fixture(scope="module")
def result() -> PolicyTrainingResult:
    return train_policy(HISTORY, CONFIG, silent)


def test_some_hundred_slates_drawn_at_random_teach_a_policy_that_earns_much_more(result: PolicyTrainingResult) -> None:
    earned = earned_by(shop_log(users=40, visits=8, seed=2, network=result.model.network))
    assert earned > 1.4 * earned_by(LOG)
    assert result.metrics["reward_estimate"] >= result.metrics["reward_as_clicked"] > result.metrics["reward_logged"]


def test_the_later_fifth_of_the_slates_is_held_out(result: PolicyTrainingResult) -> None:
    assert result.metrics["slates"] + result.metrics["validation_slates"] == len(HISTORY.slates)
    assert result.metrics["validation_slates"] == pytest.approx(len(HISTORY.slates) / 5, rel=0.05)


def test_a_trained_policy_reads_back_and_knows_nothing_of_ids_that_never_occurred(result: PolicyTrainingResult) -> None:
    read = TrainedPolicy.from_bytes(result.model.to_bytes()).network
    assert read.config.buckets == ID_BUCKETS
    trained = read.from_id.weight.abs().sum(1) > 0
    assert set(torch.nonzero(trained)[:, 0].tolist()) == set(BUCKETS.tolist())


@pytest.mark.slow
def test_the_same_history_gives_the_same_bytes_and_another_seed_others(result: PolicyTrainingResult) -> None:
    assert train_policy(HISTORY, CONFIG, silent).model.to_bytes() == result.model.to_bytes()
    other = train_policy(HISTORY, replace(CONFIG, seed=1), silent)
    assert other.model.to_bytes() != result.model.to_bytes()


def ticking() -> Iterator[float]:
    second = 0.0
    while True:
        second += 1.0
        yield second


@pytest.mark.slow
def test_a_history_with_pictures_gives_the_same_bytes_again() -> None:
    config = replace(CONFIG, look_epochs=1, click_epochs=1, actor_epochs=1)
    assert (
        train_policy(PICTURED, config, silent).model.to_bytes()
        == train_policy(PICTURED, config, silent).model.to_bytes()
    )


@pytest.mark.parametrize(
    ("history", "of_pictures"),
    [
        (HISTORY, set()),
        (replace(HISTORY, items=replace(PICTURED.items, picture_A=torch.full_like(HISTORY.items.bucket_A, -1))), set()),
        (PICTURED, {"looks"}),
    ],
    ids=["no table of pictures", "no picture", "pictures"],
)
def test_training_ends_within_its_time_and_still_gives_a_policy(history: PolicyHistory, of_pictures: set[str]) -> None:
    clock = ticking()
    stages: list[str] = []
    config = replace(CONFIG, click_epochs=1_000, actor_epochs=1_000, patience=10_000, time_budget_seconds=60.0)
    found = train_policy(history, config, lambda stage, share: stages.append(stage), clock=lambda: next(clock))
    assert found.metrics["seconds"] < 70
    assert {stage.split(",")[0] for stage in stages} == {"click model", "actor"} | of_pictures


def test_slates_of_policies_that_never_show_some_items_teach_too() -> None:
    log_weights = HISTORY.slates.log_weights.copy()
    picked = np.zeros(log_weights.shape, np.bool_)
    np.put_along_axis(picked, HISTORY.slates.picks.astype(np.int64), True, axis=1)
    log_weights[~picked & (np.arange(log_weights.shape[1]) % 2 == 0)] = -np.inf
    history = replace(HISTORY, slates=replace(HISTORY.slates, log_weights=log_weights))
    found = train_policy(history, replace(CONFIG, click_epochs=1, actor_epochs=1), silent)
    assert np.isfinite(list(found.metrics.values())).all()


def with_rewards(reward: npt.NDArray[np.float64]) -> PolicyHistory:
    return replace(HISTORY, slates=replace(HISTORY.slates, reward=reward))


@pytest.mark.parametrize(
    ("history", "message"),
    [
        (lambda: history_of(shop_log(users=5, visits=4, seed=1)), "20 slates with complete rewards are too few"),
        (lambda: with_rewards(HISTORY.slates.reward * 0), "0 reactions to slates are too few"),
        (lambda: with_rewards(-np.abs(HISTORY.slates.reward)), "no slate before the latest ones was welcome"),
        (
            lambda: replace(HISTORY, slates=replace(HISTORY.slates, matured=np.zeros(len(HISTORY.slates), np.bool_))),
            "0 slates with complete rewards are too few",
        ),
        (
            lambda: replace(HISTORY, items=replace(HISTORY.items, content_AF=HISTORY.items.content_AF[:, :9])),
            "9 columns of item content, not 98",
        ),
    ],
)
def test_a_history_that_cannot_teach_is_refused_with_what_it_lacks(history: object, message: str) -> None:
    with pytest.raises(PolicyTrainingRefused, match=message):
        train_policy(history(), replace(CONFIG, click_epochs=1, actor_epochs=0), silent)  # type: ignore[operator]
