"""The benchmark of decisions a second: its figures count what was decided, by the policy, and are all there."""

import numpy as np
import pytest

from models.recommending import Slates
from ops.bench.recommendation import speed


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SMALL": 100,
        "SMALL_BATCH": 32,
        "LARGE": 500,
        "LARGE_BATCHES": (1, 8),
        "USERS": 64,
        "MEASURED": 0.05,
        "ITEMS_AT_ONCE": 70,
    }.items():
        monkeypatch.setattr(speed, name, value)


@pytest.mark.usefixtures("small")
def test_every_figure_is_there_and_positive() -> None:
    stages = []
    found = speed.speed_benchmark(0, lambda stage, share: stages.append((stage, share)))
    assert {size: set(pace) for size, pace in found["decisions_per_second"].items()} == {
        "100": {"32"},
        "500": {"1", "8"},
    }
    assert all(pace > 0 for paces in found["decisions_per_second"].values() for pace in paces.values())
    assert found["build_seconds"] > 0
    assert found["bytes_per_item"] > 98 * 2 + 33 * 4
    assert 64 * 4 < found["bytes_per_user"] <= 2048
    assert all(0 <= share <= 1 for _, share in stages)
    assert ("500 items", 1.0) in stages


@pytest.mark.usefixtures("small")
def test_what_is_measured_are_decisions_of_the_policy_one_for_each_engagement(monkeypatch: pytest.MonkeyPatch) -> None:
    recommender = speed._recommender(100, speed._untrained(0), 0, lambda stage, share: None)
    made: list[Slates] = []
    respond = recommender.respond

    def kept(events, seed_of):  # type: ignore[no-untyped-def]
        answer = respond(events, seed_of)
        assert len(answer.slates) == len(events) == 32
        made.append(answer.slates)
        return answer

    monkeypatch.setattr(recommender, "respond", kept)
    speed._decisions_per_second(recommender, 100, 32, 0, lambda stage, share: None)
    names = [name for slates in made for name in slates.policy]
    assert set(names) <= {"recommender:1", "random"}
    assert np.mean([name == "recommender:1" for name in names]) > 0.8
