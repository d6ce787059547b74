"""`headgate bench memos`: what memos are worth to the detector where frauds show early in nothing else.

Two detectors learn from the same transfers (ops/simulate/memo_payments.py), one with memos and one with all of them
blanked, and score the later part event after event. That part is worded otherwise than the one that they learn from.
What labels say of merchants is kept from both: nothing is there to be learned from it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from models.events import Events
from models.labels import LabelledHistory
from models.metrics import average_precision
from models.sequences import TrainingConfig
from ops.bench.order import NEVER, online_scores
from ops.jobs.train import train_on_one_thread
from ops.progress import progress_bar
from ops.simulate.memo_payments import MemoConfig, MemoTransfers, memo_transfers

Progress = Callable[[str, float], None]


def run_memos(
    seeds: Sequence[int],
    *,
    quiet: bool,
    data: MemoConfig | None = None,
    training: TrainingConfig | None = None,
) -> dict[str, Any]:
    """The result as `--json` prints it; shown as a table unless quiet. data and training: but for their seeds. Raises
    TrainingRefused."""
    seeds = list(dict.fromkeys(seeds))
    found: dict[str, dict[str, float]] = {}
    with progress_bar(quiet) as progress:
        for number, seed in enumerate(seeds):
            progress("seeds", number / len(seeds))
            transfers = memo_transfers(replace(data or MemoConfig(), seed=seed))
            found[str(seed)] = compared(transfers, replace(training or TrainingConfig(), seed=seed), progress)
        progress("seeds", 1.0)
    means = {name: float(np.mean([figures[name] for figures in found.values()])) for name in ("ap_with", "ap_without")}
    result = {**means, "ratio": means["ap_with"] / means["ap_without"], "seeds": found}
    if not quiet:
        show(result, Console())
    return result


def compared(transfers: MemoTransfers, training: TrainingConfig, progress: Progress) -> dict[str, float]:
    """Average precision of both on the later part. early_...: with the last, large transfers of frauds left out;
    share: of transfers that are frauds."""
    known, early = transfers.later, transfers.early[transfers.later]
    fraud = transfers.fraud[known]
    figures = {"share": float(fraud.mean())}
    for name, each in (("with", transfers), ("without", transfers.without_memos())):
        scores = later_scores(each, training, progress)
        figures[f"ap_{name}"] = average_precision(scores, fraud)
        figures[f"early_ap_{name}"] = average_precision(scores[early | ~fraud], fraud[early | ~fraud])
    return figures | {"ratio": figures["ap_with"] / figures["ap_without"]}


def later_scores(transfers: MemoTransfers, training: TrainingConfig, progress: Progress) -> np.ndarray[Any, Any]:
    events, trained = Events.from_columns(transfers.columns()), int((~transfers.later).sum())
    history = LabelledHistory(
        events=events.take(np.arange(trained)),
        labels=transfers.fraud[:trained].astype(np.int8),
        known_at=np.full(trained, events.occurred_at[-1]),
        horizon=round(NEVER.total_seconds() * 1000),
    )
    return online_scores(train_on_one_thread(history, training, progress).model, events, progress)[trained:]


def show(result: Mapping[str, Any], console: Console) -> None:
    """For a person; fits 80 columns."""
    table = Table(title="Average precision where fraud shows early in memos alone", title_justify="left")
    for name in ("", "with memos", "without", "ratio", "early: with", "without"):
        table.add_column(name, justify="right" if name else "left")
    for seed, figures in result["seeds"].items():
        own = (figures["ap_with"], figures["ap_without"])
        early = (figures["early_ap_with"], figures["early_ap_without"])
        table.add_row(
            f"seed {seed}", *map("{:.3f}".format, own), f"{figures['ratio']:.1f}", *map("{:.3f}".format, early)
        )
    table.add_section()
    table.add_row("mean", f"{result['ap_with']:.3f}", f"{result['ap_without']:.3f}", f"{result['ratio']:.1f}", "", "")
    console.print(table)
