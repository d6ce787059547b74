"""What `headgate bench detection` compares with: published and streaming models on the Handbook's 15 features, and
boosted trees on the detector's own.

Each gives every transaction of the folds' test days a score, higher being more suspicious, and knows of frauds only
what was known: those that happened at least seven days before. Their packages come with headgate[bench].
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from models.events import Events
from ops.bench.boosted_trees import boosted_trees
from ops.bench.handbook_features import DELAY_SECONDS, FEATURES, LABEL_FEATURES
from ops.bench.handbook_protocol import DELAY_DAYS, FOLDS
from ops.bench.own_features import own_features
from ops.bench.packages import package
from ops.simulate.handbook import HandbookTransactions

#: The published settings. The package's modern defaults are far worse here, so would prove nothing.
XGBOOST = {
    "objective": "binary:logistic",
    "max_depth": 3,
    "eta": 0.3,
    "tree_method": "exact",
    "base_score": 0.5,
    "seed": 0,
    "nthread": 1,
}
XGBOOST_TREES = 50
#: By then counters and labels say what they will say later.
WARM_DAY = 30
ROWS_AT_ONCE = 20_000

Floats = npt.NDArray[np.float64]
Progress = Callable[[str, float], None]


def xgboost_scores(data: HandbookTransactions, features: Floats, progress: Progress) -> Floats:
    """Trained on each fold's training week alone, as published."""
    xgboost = package("xgboost")
    scores = np.full(len(data), np.nan)
    for number, fold in enumerate(FOLDS):
        train = (data.day >= fold.training_day) & (data.day < fold.training_end)
        test = np.isin(data.day, fold.test_days)
        matrix = xgboost.DMatrix(features[train], label=data.fraud[train])
        model = xgboost.train(XGBOOST, matrix, num_boost_round=XGBOOST_TREES)
        scores[test] = model.predict(xgboost.DMatrix(features[test]))
        progress("folds", (number + 1) / len(FOLDS))
    return scores


def lightgbm_scores(data: HandbookTransactions, features: Floats, progress: Progress) -> Floats:
    """On the detector's own features; the published ones play no part."""
    events = Events.from_columns(data.columns())
    own = own_features(events, data.fraud, timedelta(days=DELAY_DAYS), progress)
    return trees_of_folds(data, own, progress)


def trees_of_folds(data: HandbookTransactions, features: npt.NDArray[Any], progress: Progress) -> Floats:
    """Trained on everything known by a fold's first test day."""
    scores = np.full(len(data), np.nan)
    for number, fold in enumerate(FOLDS):
        done = number / len(FOLDS)
        train = (data.day >= WARM_DAY) & (data.day < fold.training_end)
        test = np.isin(data.day, fold.test_days)
        trees = boosted_trees(
            features[train],
            data.fraud[train],
            lambda stage, share, done=done: progress(stage, done + share / len(FOLDS)),  # type: ignore[misc]
        )
        scores[test] = trees(features[test])
    return scores


def river_logistic_regression(data: HandbookTransactions, features: Floats, progress: Progress) -> Floats:
    """Learns transaction by transaction for as long as the data lasts, each once its label is known."""
    linear_model, preprocessing = package("river.linear_model"), package("river.preprocessing")
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    scores = np.empty(len(data))
    learned, to_learn = 0, rows_of(features, FEATURES)
    fraud = data.fraud.tolist()
    matured = np.searchsorted(data.seconds, data.seconds - DELAY_SECONDS, side="right").tolist()
    for row, values in enumerate(rows_of(features, FEATURES)):
        while learned < matured[row]:
            model.learn_one(next(to_learn), fraud[learned])
            learned += 1
        scores[row] = model.predict_proba_one(values)[True]
        if row % ROWS_AT_ONCE == 0:
            progress("transactions", row / len(data))
    progress("transactions", 1.0)
    return scores


def half_space_trees(data: HandbookTransactions, features: Floats, progress: Progress) -> Floats:
    """Anomalies without any label, so without the features that count known frauds."""
    return _half_space_trees(data, features, [name for name in FEATURES if name not in LABEL_FEATURES], progress)


def half_space_trees_of_amounts(data: HandbookTransactions, features: Floats, progress: Progress) -> Floats:
    """The same from the amount alone, where it is at its best: each further feature hides what a large one shows."""
    return _half_space_trees(data, features, ["amount"], progress)


def _half_space_trees(data: HandbookTransactions, features: Floats, names: Sequence[str], progress: Progress) -> Floats:
    """It remembers the latest 250 transactions, so those from the first training week on are enough."""
    anomaly, preprocessing = package("river.anomaly"), package("river.preprocessing")
    model = preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(seed=0)
    first = int(np.searchsorted(data.day, FOLDS[0].training_day))
    columns = [FEATURES.index(name) for name in names]
    scores = np.full(len(data), np.nan)
    for row, values in enumerate(rows_of(features[first:, columns], names), start=first):
        scores[row] = model.score_one(values)
        model.learn_one(values)
        if row % ROWS_AT_ONCE == 0:
            progress("transactions", (row - first) / (len(data) - first))
    progress("transactions", 1.0)
    return scores


def rows_of(features: Floats, names: Sequence[str]) -> Iterator[dict[str, float]]:
    """Each row as a mapping from the columns' names, as River takes it."""
    for first in range(0, len(features), ROWS_AT_ONCE):
        for row in features[first : first + ROWS_AT_ONCE].tolist():
            yield dict(zip(names, row, strict=True))
