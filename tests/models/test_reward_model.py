"""Predicted rewards: nothing is predicted by a model that saw it, and what can be known is predicted."""

from dataclasses import replace

import numpy as np
import pytest

from models.reward_model import FitRules, cross_fitted, log_weight_features
from tests.models.slate_logs import CANDIDATES, DAY, REWARD, SIZE, log

RULES = FitRules(least=50)


def own_features(user: np.ndarray) -> np.ndarray:
    """One feature for each item and kind of user."""
    features = np.zeros((len(user), CANDIDATES, 2 * CANDIDATES))
    for candidate in range(CANDIDATES):
        features[np.arange(len(user)), candidate, (user % 2) * CANDIDATES + candidate] = 1.0
    return features


def test_a_slates_own_user_and_day_and_all_later_days_do_not_change_its_prediction() -> None:
    slates = log(2_000, 2, users=60).slates
    features = own_features(slates.user)
    before = cross_fitted(slates, features, RULES).of(slates.picks)
    row = 1_200
    day = slates.made_at // DAY
    unseen = (day >= day[row]) | (slates.user == slates.user[row])
    changed = replace(slates, reward=np.where(unseen[:, None], 100.0, slates.reward))
    seen = replace(slates, reward=np.where(unseen[:, None], slates.reward, 100.0))
    assert np.array_equal(cross_fitted(changed, features, RULES).of(slates.picks)[row], before[row])
    assert not np.allclose(cross_fitted(seen, features, RULES).of(slates.picks)[row], before[row])


def test_on_the_first_day_nothing_is_predicted_and_later_the_mean_reward_of_each_item() -> None:
    slates = log(40_000, 3).slates
    found = cross_fitted(slates, own_features(slates.user), RULES)
    first = slates.made_at < DAY
    predicted = found.of(slates.picks)
    assert (predicted[first] == 0).all()
    late = slates.made_at >= 5 * DAY
    truth = REWARD[(slates.user % 2)[:, None], slates.picks, np.arange(SIZE)]
    assert np.abs(predicted[late] - truth[late]).mean() < 0.03
    assert predicted[late].mean(axis=0) == pytest.approx(truth[late].mean(axis=0), abs=0.01)


def test_empty_positions_are_not_learned_from_and_earn_nothing() -> None:
    slates = log(3_000, 4).slates
    picks = slates.picks.copy()
    picks[::2, 1] = -1
    reward = np.where(picks >= 0, slates.reward, np.nan)  # whatever stands there
    features = own_features(slates.user)
    predicted = cross_fitted(replace(slates, picks=picks, reward=reward), features, RULES).of(picks)
    assert np.isfinite(predicted).all()
    assert (predicted[picks < 0] == 0).all()
    assert (predicted[slates.made_at > 5 * DAY, 0] != 0).all()


def test_policies_log_weights_are_finite_features_whatever_cannot_be_chosen() -> None:
    features = log_weight_features(np.array([[0.0, -np.inf, -50.0]]), np.full((1, 3), -np.inf))
    assert features.shape == (1, 3, 4)
    assert np.isfinite(features).all()
    assert features[0, :, 1].tolist() == pytest.approx([1.0, 0.0, 0.0])


def test_features_of_other_slates_are_refused() -> None:
    slates = log(100, 5).slates
    with pytest.raises(ValueError, match="each candidate"):
        cross_fitted(slates, np.zeros((99, CANDIDATES, 1)), RULES)
