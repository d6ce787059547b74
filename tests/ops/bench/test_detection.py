"""The benchmark's arithmetic and output, with contestants whose figures are known; and the service's own part of it."""

import json
from dataclasses import replace
from datetime import timedelta
from io import StringIO

import numpy as np
import numpy.typing as npt
import pytest
from rich.console import Console

from models.events import MILLISECONDS_A_DAY
from models.metrics import average_precision
from ops.bench.detection import SERVICE, UNLABELLED, Contestant, Progress, run_detection, show
from ops.bench.detection_service import options, replayed
from ops.bench.handbook_protocol import END_DAY, FOLDS
from ops.bench.measure import BenchmarkFailed
from ops.bench.options import whole_numbers
from ops.jobs.backtest import BacktestOptions, training_times
from ops.jobs.challenge import RetrainingRules
from ops.simulate.handbook import FIRST_DAY, HandbookConfig, HandbookTransactions, handbook_transactions

Floats = npt.NDArray[np.float64]
SMALL = HandbookConfig(customers=60, terminals=400)


def perfect(data: HandbookTransactions, features: Floats, progress: Progress) -> Floats:
    assert features.shape == (len(data), 15)
    assert data.day.max() < END_DAY
    return data.fraud.astype(float)


def without_an_idea(data: HandbookTransactions, features: Floats, progress: Progress) -> Floats:
    return np.zeros(len(data))


CONTESTANTS = [
    Contestant(SERVICE.name, "Own", perfect),
    Contestant("none", "No idea", without_an_idea),
    Contestant(UNLABELLED.name, "Unlabelled", without_an_idea),
]


def test_the_result_has_the_stable_keys_and_means_over_seeds() -> None:
    result = run_detection([1, 2, 1], quiet=True, contestants=CONTESTANTS, data=SMALL)
    assert json.loads(json.dumps(result)) == result
    assert (result["ap"], result["auc"]) == (1.0, 1.0)
    assert list(result["seeds"]) == ["1", "2"]
    assert set(result["baselines"]) == {"none"}
    assert result["baselines"]["none"]["auc"] == 0.5
    for name in ("ap", "auc", "cp100"):
        assert result[name] == pytest.approx(np.mean([of[name] for of in result["seeds"].values()]))
        for of in result["seeds"].values():
            assert of[name] == pytest.approx(np.mean([fold[name] for fold in of["folds"][SERVICE.name]]))
    assert result["unlabelled_ap"] == result["baselines"]["none"]["ap"] == result["unlabelled"]["ap"]
    assert 0 < result["unlabelled_ap"] < 0.5
    aps = [of["unlabelled_ap"] for of in result["seeds"].values()]
    assert aps[0] != aps[1]


def test_the_table_names_every_contestant_and_how_much_better_the_service_is() -> None:
    result = run_detection([1], quiet=True, contestants=CONTESTANTS, data=SMALL)
    shown = StringIO()
    show(result, CONTESTANTS, Console(width=100, file=shown))
    for contestant in CONTESTANTS:
        assert contestant.title in shown.getvalue()
    assert f"+{1 - result['baselines']['none']['ap']:.3f}" in shown.getvalue()


def test_a_contestant_without_a_score_for_every_tested_transaction_is_named() -> None:
    silent = Contestant("silent", "Silent", lambda data, features, progress: np.full(len(data), np.nan))
    with pytest.raises(BenchmarkFailed, match=r"Silent: .* have no score"):
        run_detection([1], quiet=True, contestants=[*CONTESTANTS, silent], data=SMALL)


def test_seeds_are_numbers_with_commas() -> None:
    assert whole_numbers("--seeds", "0,1, 2") == [0, 1, 2]
    for wrong in ("", "one", "1;2", "-1", "1,"):
        with pytest.raises(BenchmarkFailed, match="--seeds takes whole numbers"):
            whole_numbers("--seeds", wrong)


def test_the_service_trains_at_the_beginning_of_each_folds_test_days_with_labels_a_week_late() -> None:
    times = FIRST_DAY + np.array([5_000, END_DAY * MILLISECONDS_A_DAY - 1])
    assert training_times(times, options()) == [FIRST_DAY + fold.test_day * MILLISECONDS_A_DAY for fold in FOLDS]
    assert options().rules.label_horizon.days == 7


@pytest.mark.slow
@pytest.mark.parametrize("labelled", [True, False])
def test_the_service_scores_everything_from_its_first_model_on_and_better_than_chance(labelled: bool) -> None:
    data = handbook_transactions(HandbookConfig(customers=60, terminals=400, days=30))
    quick = BacktestOptions(retrain_from=timedelta(days=20), rules=RetrainingRules(hidden=8, epochs=2))
    scores = replayed(data, replace(quick, retrain_every=timedelta(days=30)), lambda *told: None, labelled=labelled)
    tested = data.day >= 20
    assert np.isnan(scores[~tested]).all()
    assert average_precision(scores[tested], data.fraud[tested]) > 1.2 * data.fraud[tested].mean()
