"""`headgate backtest`: files in, a folder with predictions and a report out. The replay itself is backtest.py's."""

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from models.events import Events
from ops.jobs.backtest import BacktestOptions, BacktestRefused, BacktestResult, backtest, day_of
from ops.jobs.challenge import Progress, RetrainingRules
from ops.jobs.history import history_from_files
from ops.jobs.report import write_report
from ops.jobs.report_figures import Figures, figures_of, scored_rows
from ops.jobs.report_page import number, percent
from ops.jobs.retrain_command import parse_span
from streams.pseudonyms import Pseudonyms

PREDICTIONS = "predictions.parquet"


def options_of(
    label_delay: str, retrain_every: str, retrain_from: str | None, *, alerts_per_day: float, **rules: Any
) -> BacktestOptions:
    """Spans as 7d or 12h; rules: further ones for training. Raises BadSchedule."""
    return BacktestOptions(
        retrain_every=parse_span(retrain_every, "--retrain-every"),
        retrain_from=None if retrain_from is None else parse_span(retrain_from, "--retrain-from"),
        rules=RetrainingRules(
            label_horizon=parse_span(label_delay, "--label-delay"), alerts_per_day=alerts_per_day, **rules
        ),
    )


def run_backtest(
    transactions: Path,
    labels: Path | None,
    output: Path,
    options: BacktestOptions,
    rates: Mapping[str, float],
    progress: Progress,
    pseudonyms: Pseudonyms | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """What --json prints. Raises BacktestRefused, UnreadableHistory."""
    prepare_folder(output)
    progress("read", 0.0)
    # With a horizon of nothing every event has matured, so that the labels are those of the file.
    history = history_from_files(transactions, labels, rates, pseudonyms, label_horizon=timedelta(0))
    fraud = None if labels is None else history.labels == 1
    progress("read", 1.0)
    began = clock()
    result = backtest(history.events, fraud, options, progress)
    seconds = clock() - began
    figures = figures_of(history.events, fraud, options, result)
    scored = scored_rows(history.events, fraud, options, result)
    try:
        write_predictions(output / PREDICTIONS, history.events, result)
        files = [PREDICTIONS, *write_report(output, figures, scored, options, result)]
    except OSError as error:
        raise BacktestRefused(f"cannot write to {output}: {error.strerror or error}") from error
    return {**summary(figures, result), "seconds": seconds, "output": str(output), "files": files}


def prepare_folder(output: Path) -> None:
    """Before any work: nothing that exists is overwritten or mixed with. Raises BacktestRefused."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        filled = any(output.iterdir())
    except OSError as error:
        raise BacktestRefused(f"cannot use {output} as the output folder: {error.strerror or error}") from error
    if filled:
        raise BacktestRefused(f"{output} is not empty; give --output a new or empty folder")


def write_predictions(path: Path, events: Events, result: BacktestResult) -> None:
    """One row for each event, in the order of time: score and model are null where no model scored it."""
    names = pa.array(result.models, pa.string())
    missing: npt.NDArray[np.bool_] = result.model < 0
    model = pa.DictionaryArray.from_arrays(pa.array(result.model, pa.int32(), mask=missing), names)
    columns = {
        "event_id": pa.array(events.event_id, pa.string()),
        "score": pa.array(result.score, mask=np.isnan(result.score)),
        "flagged": pa.array(result.flagged),
        "model": model,
    }
    pa.parquet.write_table(pa.table(columns), path, compression="zstd")


def summary(figures: Figures, result: BacktestResult) -> dict[str, Any]:
    versions = [
        {
            "at": day_of(one.at),
            "champion": one.champion,
            "model": one.model,
            "decision": one.decision,
            "reason": one.reason,
            "verdict": None if one.verdict is None else one.verdict.figures(),
        }
        for one in result.passes
    ]
    return {**figures.as_json(), "versions": versions}


def in_words(found: Mapping[str, Any]) -> str:
    """For a terminal: the figures of `run_backtest`."""

    def value(name: str) -> float:
        return float("nan") if found.get(name) is None else float(found[name])

    lines = [f"{found['scored']:,} of {found['events']:,} events scored"]
    if "judged" in found:
        lines += [
            f"{found['judged']:,} could be judged, {found['frauds']:,} of them frauds",
            f"average precision {number(value('average_precision'))}, AUC {number(value('auc'))}",
            f"precision at the budget {percent(value('precision_at_budget'))}; "
            f"{percent(value('alert_precision'))} of the alerts hold a fraud, {percent(value('alert_recall'))} of the "
            "frauds are in alerts",
        ]
    lines.append(f"{number(value('alerts_per_day'), 1)} alerts a day, budget {found['alert_budget']:g}")
    promoted = sum(one["decision"] in ("first model", "promote") for one in found["versions"])
    lines.append(f"{len(found['versions'])} trainings, {promoted} models took over")
    lines.append(f"report: {Path(found['output']) / 'report.html'}")
    return "\n".join(lines)
