"""The benchmark of the network alone, in small: what a batch holds, what a rate is made of, and that wrong scores are
refused. How fast anything is, is not asserted."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import ops.bench.model
from models.features import FeatureBatch, FeatureBuilder
from models.running import ModelScores, RunningModel
from ops.bench.measure import BenchmarkFailed
from ops.bench.model import (
    LEAST_EVENTS,
    SMALL_BATCH,
    TOLERANCE,
    ModelBenchConfig,
    Resident,
    build_loads,
    detector,
    draw_accounts,
    run_model,
    step_rate,
)

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
SMALL = ModelBenchConfig(batches=(300, 9_000), hidden=(8, 12), accounts=5_000, hot_batch=2_000, repeats=2)
#: One kind of batches, at once and in small.
TINY = replace(SMALL, batches=(9_000,), hidden=(8,), hot_batch=9_000)


class Forgetful(RunningModel):
    """Keeps no state of a batch that is not small."""

    def score(self, built: FeatureBatch) -> ModelScores:
        before = self._hidden.values.clone()
        scores = super().score(built)
        if len(built.rows) > SMALL_BATCH:
            self._hidden.values.copy_(before)
        return scores


class Undefined(RunningModel):
    """Has no score for the last event of a batch that is not small."""

    def score(self, built: FeatureBatch) -> ModelScores:
        scores = super().score(built)
        if len(built.rows) > SMALL_BATCH:
            scores.score[-1] = np.nan
        return scores


@pytest.mark.slow
def test_every_size_is_measured_with_every_number_of_units_and_once_with_a_hot_key() -> None:
    found = run_model(SMALL, quiet=True)
    assert json.loads(json.dumps(found)) == found
    kinds = [(300, False), (9_000, False), (2_000, True)]
    expected = [(device, hidden, *kind) for hidden in (8, 12) for kind in kinds for device in DEVICES]
    assert [
        tuple(step[name] for name in ("device", "hidden", "batch", "hot_key")) for step in found["steps"]
    ] == expected
    for step in found["steps"]:
        assert step["events_per_second"] * step["microseconds_per_event"] == pytest.approx(1e6, rel=0.01)
        assert 0 <= step["largest_difference"] <= TOLERANCE


def test_the_median_of_the_passes_after_the_first_is_what_counts() -> None:
    scores = [5.0, 100.0, 3.0, 1.0, 2.0]  # the CPU's in small batches, then a pass that warms up, then three
    clock = itertools.accumulate(itertools.chain.from_iterable((0.0, seconds) for seconds in scores))
    whole, small = FeatureBuilder(0.0), FeatureBuilder(0.0)
    load, *_ = build_loads(TINY, whole, small, lambda stage, share: None)
    weights, read = detector(8, load.built[0]), lambda: next(clock)
    expected, seconds = Resident(weights, small, "cpu", read).scores(load.small)
    rate = step_rate(Resident(weights, whole, "cpu", read), load, expected, repeats=3)
    assert seconds == 5.0
    assert rate.events_per_second == 18_000 / 2
    assert rate.microseconds_per_event == pytest.approx(1e6 * 2 / 18_000, abs=0.001)


def test_the_scores_that_are_compared_differ_by_far_more_than_may_be() -> None:
    small = FeatureBuilder(0.0)
    load, *_ = build_loads(TINY, FeatureBuilder(0.0), small, lambda stage, share: None)
    scores, _ = Resident(detector(8, load.built[0]), small, "cpu", lambda: 0.0).scores(load.small)
    assert len(scores) == 18_000
    assert scores.std() > 100 * TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(("model", "by"), [(Forgetful, r"\d\.\de-0[1-3]"), (Undefined, "nan")])
def test_scores_other_than_the_cpus_in_small_batches_are_refused(
    model: type[RunningModel], by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops.bench.model, "RunningModel", model)
    with pytest.raises(BenchmarkFailed, match=rf"on cpu, 8 units, batches of 9,000: a score differs by {by} from"):
        run_model(TINY, quiet=True)


def test_an_account_comes_once_in_a_batch_where_there_are_enough_but_for_the_hot_one() -> None:
    batches = list(draw_accounts(5_000, 4_000, hot_key=False))
    assert sum(map(len, batches)) >= LEAST_EVENTS
    assert all(len(np.unique(batch)) == len(batch) == 4_000 for batch in batches)
    for batch in draw_accounts(5_000, 4_000, hot_key=True):
        accounts, times = np.unique(batch, return_counts=True)
        assert times[accounts == 0] == 1_600
        assert times[accounts != 0].tolist() == [1] * 2_400
    assert [len(batch) for batch in draw_accounts(50, 9_000, hot_key=False)] == [9_000, 9_000]


def test_sizes_that_are_none_are_refused() -> None:
    with pytest.raises(BenchmarkFailed, match="each 1 or more"):
        run_model(replace(SMALL, batches=(0,)), quiet=True)
