"""`headgate bench order`: what the detector's memory is worth where fraud shows in nothing but the order of payments.

The detector and boosted trees get the same 26 features of the same events (ops/simulate/order.py) and learn from the
same first part. The trees see each event alone; the detector's network has gone through the account's events. What
labels say of merchants is kept from both: nothing is there to be learned from it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from models.artifact import TrainedDetector
from models.events import Events
from models.feature_schema import FEATURES
from models.labels import LabelledHistory
from models.metrics import average_precision, roc_auc
from models.scoring import Scorer
from models.sequences import TrainingConfig
from ops.bench.boosted_trees import boosted_trees
from ops.bench.own_features import own_features
from ops.bench.packages import package
from ops.jobs.train import train_on_one_thread
from ops.progress import progress_bar
from ops.simulate.order import OrderConfig, OrderTransactions, order_transactions

TRAINED_SHARE = 0.7
SCORED_AT_ONCE = 8_192
#: No label is that late, so that none tells anything of a merchant before the history ends.
NEVER = timedelta(days=3650)

Progress = Callable[[str, float], None]


def run_order(
    seeds: Sequence[int],
    *,
    quiet: bool,
    data: OrderConfig | None = None,
    training: TrainingConfig | None = None,
) -> dict[str, Any]:
    """The result as `--json` prints it; shown as a table unless quiet. data and training: but for their seeds. Raises
    BenchmarkFailed, TrainingRefused."""
    package("lightgbm")  # before minutes of training rather than after them
    seeds = list(dict.fromkeys(seeds))
    found: dict[str, dict[str, float]] = {}
    with progress_bar(quiet) as progress:
        for number, seed in enumerate(seeds):
            progress("seeds", number / len(seeds))
            payments = order_transactions(replace(data or OrderConfig(), seed=seed))
            found[str(seed)] = compared(payments, replace(training or TrainingConfig(), seed=seed), progress)
        progress("seeds", 1.0)
    means = {name: float(np.mean([figures[name] for figures in found.values()])) for name in ("ap", "trees_ap")}
    result = {**means, "ratio": means["ap"] / means["trees_ap"], "seeds": found}
    if not quiet:
        show(result, Console())
    return result


def compared(payments: OrderTransactions, training: TrainingConfig, progress: Progress) -> dict[str, float]:
    """Average precision of both on the later part. last_payments_...: among the last payments of bursts alone, of which
    `share` are frauds."""
    events = Events.from_columns(payments.columns())
    trained = int(len(events) * TRAINED_SHARE)
    features = own_features(events, payments.fraud, NEVER, progress)[:, : len(FEATURES)]
    trees = boosted_trees(features[:trained], payments.fraud[:trained], progress)(features[trained:])
    history = LabelledHistory(
        events=events.take(np.arange(trained)),
        labels=payments.fraud[:trained].astype(np.int8),
        known_at=np.full(trained, events.occurred_at[-1]),
        horizon=round(NEVER.total_seconds() * 1000),
    )
    own = online_scores(train_on_one_thread(history, training, progress).model, events, progress)[trained:]
    fraud, last = payments.fraud[trained:], last_of_bursts(payments)[trained:]
    ap, trees_ap = average_precision(own, fraud), average_precision(trees, fraud)
    return {
        "ap": ap,
        "trees_ap": trees_ap,
        "ratio": ap / trees_ap,
        "last_payments_share": float(fraud[last].mean()),
        "last_payments_auc": roc_auc(own[last], fraud[last]),
        "last_payments_trees_auc": roc_auc(trees[last], fraud[last]),
    }


def online_scores(model: TrainedDetector, events: Events, progress: Progress) -> npt.NDArray[np.float64]:
    """Event after event through the code that runs live, from empty states."""
    scorer, parts = Scorer(model), []
    for first in range(0, len(events), SCORED_AT_ONCE):
        parts.append(scorer.score(events.take(np.arange(first, min(first + SCORED_AT_ONCE, len(events))))).score)
        progress("score", min(1.0, (first + SCORED_AT_ONCE) / len(events)))
    return np.concatenate(parts)


def last_of_bursts(payments: OrderTransactions) -> npt.NDArray[np.bool_]:
    """bool[n]: the payments that end a burst, of which some are the frauds."""
    rows = np.flatnonzero(payments.burst >= 0)
    # The first from behind of each burst.
    _, place = np.unique(payments.burst[rows[::-1]], return_index=True)
    last = np.zeros(len(payments), np.bool_)
    last[rows[::-1][place]] = True
    return last


def show(result: Mapping[str, Any], console: Console) -> None:
    """For a person; fits 80 columns."""
    table = Table(title="Average precision where fraud shows in the order of payments alone", title_justify="left")
    for name in ("", "detector", "boosted trees", "ratio", "trees' AUC at last payments"):
        table.add_column(name, justify="right" if name else "left")
    for seed, figures in result["seeds"].items():
        table.add_row(
            f"seed {seed}",
            f"{figures['ap']:.3f}",
            f"{figures['trees_ap']:.3f}",
            f"{figures['ratio']:.1f}",
            f"{figures['last_payments_trees_auc']:.3f}",
        )
    table.add_section()
    table.add_row("mean", f"{result['ap']:.3f}", f"{result['trees_ap']:.3f}", f"{result['ratio']:.1f}", "")
    console.print(table)
    share = float(np.mean([figures["last_payments_share"] for figures in result["seeds"].values()]))
    console.print(
        f"Of the last payments of bursts {share:.0%} are frauds. Trees can find those payments but not tell them apart "
        "(an AUC of .5 is chance): without order there is nothing to see."
    )
