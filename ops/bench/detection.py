"""`headgate bench detection`: how well the service detects, beside published and streaming models on the same data.

The data is the Fraud Detection Handbook's, generated anew for each seed, and so is its protocol. The service's scores
come out of the very code of `headgate backtest`. Every contestant gives one score for each transaction of the test
days; the figures are means over the four folds, then over the seeds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from ops.bench.detection_baselines import (
    half_space_trees,
    half_space_trees_of_amounts,
    lightgbm_scores,
    river_logistic_regression,
    xgboost_scores,
)
from ops.bench.detection_service import service_scores, unlabelled_service_scores
from ops.bench.handbook_features import published_features
from ops.bench.handbook_protocol import END_DAY, FOLDS, Figures, fold_figures, mean_figures
from ops.bench.measure import BenchmarkFailed
from ops.bench.packages import package
from ops.progress import progress_bar
from ops.simulate.handbook import HandbookConfig, HandbookTransactions, handbook_transactions

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Contestant:
    """scores(transactions, published features, progress): float64[n], NaN where it was not asked."""

    name: str
    title: str
    scores: Callable[[HandbookTransactions, npt.NDArray[np.float64], Progress], npt.NDArray[np.float64]]


SERVICE = Contestant("headgate", "Headgate", service_scores)
UNLABELLED = Contestant("headgate_unlabelled", "Headgate, no label ever", unlabelled_service_scores)
BASELINES = (
    Contestant("lightgbm", "LightGBM, Headgate's features", lightgbm_scores),
    Contestant("xgboost", "XGBoost, 15 published features", xgboost_scores),
    Contestant("river_logistic_regression", "River logistic regression, the same", river_logistic_regression),
    Contestant("half_space_trees", "Half-space trees, no labels", half_space_trees),
    Contestant("half_space_trees_amount", "Half-space trees, the amount alone", half_space_trees_of_amounts),
)
CONTESTANTS = (SERVICE, *BASELINES, UNLABELLED)
PACKAGES = ("lightgbm", "xgboost")

#: Of a seed: each contestant's figures, fold by fold.
Found = Mapping[str, Sequence[Figures]]


def run_detection(
    seeds: Sequence[int],
    *,
    quiet: bool,
    contestants: Sequence[Contestant] = CONTESTANTS,
    data: HandbookConfig | None = None,
) -> dict[str, Any]:
    """The result as `--json` prints it; shown as a table unless quiet. contestants: the service and its unlabelled self
    among them; data: but for its seed. Raises BenchmarkFailed, BacktestRefused."""
    for name in PACKAGES:  # before an hour of work rather than after it
        package(name)
    seeds = list(dict.fromkeys(seeds))
    found: dict[int, Found] = {}
    with progress_bar(quiet) as progress:
        for number, seed in enumerate(seeds):
            progress("seeds", number / len(seeds))
            found[seed] = figures_of(replace(data or HandbookConfig(), seed=seed), contestants, progress)
        progress("seeds", 1.0)
    result = summary(found)
    if not quiet:
        show(result, contestants, Console())
    return result


def figures_of(config: HandbookConfig, contestants: Sequence[Contestant], progress: Progress) -> Found:
    progress("transactions and features", 0.0)
    data = handbook_transactions(config).until_day(END_DAY)
    features = published_features(data)
    progress("transactions and features", 1.0)
    found = {}
    for contestant in contestants:
        scores = contestant.scores(data, features, named(contestant.title, progress))
        try:
            found[contestant.name] = [fold_figures(data, fold, scores) for fold in FOLDS]
        except ValueError as error:
            raise BenchmarkFailed(f"{contestant.title}: {error}") from error
    return found


def named(title: str, progress: Progress) -> Progress:
    return lambda stage, share: progress(f"{title}: {stage}", share)


def summary(found: Mapping[int, Found]) -> dict[str, Any]:
    """Means over the folds for each seed, and over the seeds. Headgate's own stand above; the rest are baselines."""
    seeds = {seed: {name: mean_figures(folds) for name, folds in of.items()} for seed, of in found.items()}
    names = list(next(iter(seeds.values())))
    means = {name: mean_figures([of[name] for of in seeds.values()]) for name in names}
    return {
        **_told(means),
        "seeds": {
            str(seed): {**_told(of), "folds": {name: [asdict(one) for one in found[seed][name]] for name in names}}
            for seed, of in seeds.items()
        },
    }


def _told(figures: Mapping[str, Figures]) -> dict[str, Any]:
    return {
        **asdict(figures[SERVICE.name]),
        "unlabelled_ap": figures[UNLABELLED.name].ap,
        "unlabelled": asdict(figures[UNLABELLED.name]),
        "baselines": {
            name: asdict(one) for name, one in figures.items() if name not in (SERVICE.name, UNLABELLED.name)
        },
    }


def show(result: Mapping[str, Any], contestants: Sequence[Contestant], console: Console) -> None:
    """For a person; fits 100 columns."""
    seeds = result["seeds"]
    table = Table(title="Average precision on the Handbook's protocol", title_justify="left")
    for name in ("", "AP", *(f"seed {seed}" for seed in seeds), "Headgate is better by", "AUC", "CP@100"):
        table.add_column(name, justify="right" if name else "left")
    for contestant in contestants:
        own = _of(result, contestant)
        table.add_row(
            contestant.title,
            f"{own['ap']:.3f}",
            *(f"{_of(of, contestant)['ap']:.3f}" for of in seeds.values()),
            "" if contestant.name == SERVICE.name else f"{result['ap'] - own['ap']:+.3f}",
            f"{own['auc']:.3f}",
            f"{own['cp100']:.3f}",
        )
    console.print(table)
    console.print(
        f"Means over {len(FOLDS)} folds of seven days and {len(seeds)} seeds of the data; labels seven days late. "
        "AUC: area under the ROC curve; CP@100: hits among the 100 cards with the highest scores of a day."
    )


def _of(told: Mapping[str, Any], contestant: Contestant) -> Mapping[str, Any]:
    if contestant.name == SERVICE.name:
        return told
    unlabelled = contestant.name == UNLABELLED.name
    found: Mapping[str, Any] = told["unlabelled"] if unlabelled else told["baselines"][contestant.name]
    return found
