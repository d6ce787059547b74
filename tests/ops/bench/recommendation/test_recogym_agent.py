"""What the recommender in RecoGym is made of: its click model against an exact posterior, its directions, its state."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ops.bench.recommendation.recogym_agent import (
    AgentConfig,
    ClickModel,
    Directions,
    Recommender,
    next_view_loss,
    pretrained,
)
from ops.bench.recommendation.recogym_world import Log, RecoGymConfig

SMALL = AgentConfig(hidden=8, vector=5, epochs=15, directions=2)


def two_tastes(users: int, seed: int = 0) -> list[np.ndarray]:
    """Half of the users view products 0 to 3, the others 4 to 7."""
    draw = np.random.default_rng(seed)
    return [draw.integers(4, size=12) + 4 * (user % 2) for user in range(users)]


def test_the_click_model_is_close_to_the_exact_posterior() -> None:
    draw = np.random.default_rng(0)
    model = ClickModel(np.array([[-1.0], [-1.0]]), np.array([0.5]))
    clicks = draw.random(400) < 0.4
    for clicked in clicks:
        model.update(0, np.ones(1), bool(clicked))
    grid = np.linspace(-4, 3, 4001)
    log_posterior = -((grid + 1) ** 2) / (2 * 0.25) + clicks.sum() * grid - len(clicks) * np.log1p(np.exp(grid))
    weights = np.exp(log_posterior - log_posterior.max())
    mean = (grid * weights).sum() / weights.sum()
    spread = np.sqrt(((grid - mean) ** 2 * weights).sum() / weights.sum())
    means, deviations = model.logits(np.ones(1))
    assert means[0] == pytest.approx(mean, abs=0.03)
    assert deviations[0] == pytest.approx(spread, rel=0.1)
    assert (means[1], deviations[1]) == (-1.0, 0.5)  # nothing was shown of it


def test_directions_have_unit_variance_and_keep_what_products_tell_apart() -> None:
    draw = np.random.default_rng(1)
    queries = draw.normal(size=(500, 6)) * np.array([3.0, 2.0, 0.01, 0.01, 0.01, 0.01])
    vectors = draw.normal(size=(40, 6))
    found = Directions(queries, vectors, 2)
    coordinates = found.coordinates(queries)
    np.testing.assert_allclose(np.cov(coordinates.T, bias=True), np.eye(2), atol=1e-6)
    preferences = (queries - queries.mean(axis=0)) @ vectors.T
    assert np.abs(coordinates @ found.of_products.T - preferences).max() < 0.02 * np.abs(preferences).max()


def test_pretraining_learns_whose_taste_is_whose() -> None:
    found = pretrained(two_tastes(200), 8, SMALL, 0, lambda done: None)
    with torch.no_grad():
        loss = float(next_view_loss(found, two_tastes(40, seed=9)))
    # Knowing all, the first view costs log 8, each later one log 4; popularity alone costs log 8 each.
    assert loss < np.log(4) + 0.2


@pytest.mark.slow
def test_what_is_learned_online_decides_what_a_user_with_the_same_taste_is_shown() -> None:
    eager = replace(SMALL, direction_spread=1.0, exploration=0.1)
    views = two_tastes(200)
    user = np.concatenate([np.full(13, number) for number in range(len(views))])
    shown = np.tile(np.arange(13) == 12, len(views))
    product = np.concatenate([[*one, one[0]] for one in views])
    log = Log(user, shown, product, np.zeros(len(user), bool), np.where(shown, 0.5, np.nan))
    log.clicked[np.flatnonzero(shown)[:8]] = True
    agent = Recommender(RecoGymConfig(products=8), log, lambda done: None, eager)
    for turn in range(600):
        taste = turn % 2
        agent.begin()
        agent.view(4 * taste + turn % 4)
        # Each taste clicks one product that it never views.
        agent.learn(7 - 4 * taste, turn % 3 == 0)
        agent.learn(3 + 4 * taste, False)
    chosen = []
    for taste in (0, 1):
        agent.begin()
        agent.view(4 * taste)
        chosen.append(agent.choose())
    assert chosen == [7, 3]
