"""`headgate bench drift`: what retraining is worth when fraud changes.

Two simulated histories of the same people follow one another; the frauds of the second are of other kinds. The same
stream goes through `headgate backtest` twice: retrained every week, and with its first model for ever. Both see labels
equally late. The average precision of each week says what the frozen model loses and what retraining wins back.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from models.events import MILLISECONDS_A_DAY, Events
from ops.bench.measure import BenchmarkFailed
from ops.jobs.backtest import BacktestOptions, BacktestResult, backtest
from ops.jobs.challenge import RetrainingRules
from ops.jobs.report_figures import Week, figures_of
from ops.jobs.report_plots import BLUE, GREY, ORANGE, canvas, date_axis, legend, png, title
from ops.simulate.cards import DEFAULT_START, SimulationConfig, simulate

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class DriftConfig:
    """Days of each kind of fraud; the first training is after first_training days."""

    accounts: int = 800
    merchants: int = 200
    days_before: int = 49
    days_after: int = 56
    first_training: int = 28
    before: tuple[str, ...] = ("large_amounts", "compromised_merchants")
    after: tuple[str, ...] = ("stolen_credentials", "structuring", "card_testing")
    fraud_share: float = 0.03
    hidden: int = 32
    epochs: int = 4
    alerts_per_day: float = 50.0
    seed: int = 0

    @property
    def changed_at(self) -> int:
        """Epoch milliseconds."""
        return DEFAULT_START + self.days_before * MILLISECONDS_A_DAY


def run_drift(output: Path, config: DriftConfig, progress: Progress) -> dict[str, Any]:
    """Writes the plot; returns the proof. Raises BenchmarkFailed where the file cannot be written."""
    if output.suffix != ".png" or not output.absolute().parent.is_dir():
        raise BenchmarkFailed(f"{output} must be a .png file in a folder that exists")
    events, fraud = drifting_history(config)
    retrained, frozen = (weeks_of(events, fraud, options, progress) for options in contestants(config))
    try:
        output.write_bytes(png(plot(retrained, frozen, config)))
    except OSError as error:
        raise BenchmarkFailed(f"cannot write {output}: {error.strerror or error}") from error
    return {
        "retrained": summary(retrained, config),
        "frozen": summary(frozen, config),
        "events": len(events),
        "frauds": int(fraud.sum()),
        "seed": config.seed,
    }


def drifting_history(config: DriftConfig) -> tuple[Events, npt.NDArray[np.bool_]]:
    """Events in the order of time, and which of them are frauds."""
    base = SimulationConfig(
        accounts=config.accounts, merchants=config.merchants, fraud_share=config.fraud_share, seed=config.seed
    )
    end = config.changed_at + config.days_after * MILLISECONDS_A_DAY
    parts = [
        simulate(replace(base, run="before", end=config.changed_at, scenarios=config.before)),
        simulate(replace(base, run="after", start=config.changed_at, end=end, scenarios=config.after)),
    ]
    columns = [part.columns() for part in parts]
    joined = {
        name: np.concatenate([one[name] for one in columns])
        if isinstance(columns[0][name], np.ndarray)
        else [text for one in columns for text in one[name]]
        for name in columns[0]
    }
    return Events.from_columns(joined), np.concatenate([part.fraud for part in parts])


def contestants(config: DriftConfig) -> tuple[BacktestOptions, BacktestOptions]:
    """Retrained every week; with the first model for ever."""
    rules = RetrainingRules(
        hidden=config.hidden, epochs=config.epochs, alerts_per_day=config.alerts_per_day, seed=config.seed
    )
    retrained = BacktestOptions(retrain_from=timedelta(days=config.first_training), rules=rules)
    return retrained, replace(retrained, retrain_every=timedelta(days=config.days_before + config.days_after))


def weeks_of(
    events: Events, fraud: npt.NDArray[np.bool_], options: BacktestOptions, progress: Progress
) -> tuple[Week, ...]:
    """With quality judged on all events: in a simulation every label is known in the end."""
    result: BacktestResult = backtest(events, fraud, options, progress)
    at_once = replace(options, rules=replace(options.rules, label_horizon=timedelta(0)))
    return figures_of(events, fraud, at_once, result).weeks


def precision_by_week(weeks: Sequence[Week]) -> npt.NDArray[np.float64]:
    return np.array([np.nan if week.quality is None else week.quality.average_precision for week in weeks])


def in_words(found: Mapping[str, Any]) -> str:
    """For a terminal: the proof of `run_drift`."""
    lines = [f"average precision by week, {found['events']:,} events, {found['frauds']:,} frauds"]
    for name in ("retrained", "frozen"):
        one = found[name]
        lines.append(
            f"  {name:10} {one['before']:.3f} before the change, {one['after']:.3f} after it, "
            f"{one['last_four_weeks']:.3f} in the last four weeks"
        )
    return "\n".join(lines)


def summary(weeks: Sequence[Week], config: DriftConfig) -> dict[str, Any]:
    """Mean average precision of the weeks before the change, of those after it, and of the last four; and all."""
    precision = precision_by_week(weeks)
    begin = np.array([week.day * MILLISECONDS_A_DAY for week in weeks])
    return {
        "before": float(precision[begin < config.changed_at].mean()),
        "after": float(precision[begin >= config.changed_at].mean()),
        "last_four_weeks": float(precision[-4:].mean()),
        "weeks": precision.tolist(),
    }


def plot(retrained: Sequence[Week], frozen: Sequence[Week], config: DriftConfig) -> Figure:
    figure, axes = canvas(9.0, 4.0)
    changed = config.changed_at / MILLISECONDS_A_DAY
    for weeks, colour, label in ((retrained, BLUE, "retrained every week"), (frozen, ORANGE, "first model for ever")):
        middle = [week.day + week.days / 2 for week in weeks]
        axes.plot(middle, precision_by_week(weeks), "o-", color=colour, label=label, markersize=4)
    axes.axvline(changed, color=GREY, linestyle="--", linewidth=1.2)
    axes.text(changed + 0.6, 0.03, "other kinds of fraud from here on", fontsize=8.5)
    axes.set(ylim=(0, 1.0), ylabel="average precision of the week")
    title(axes, "Retraining in a stream whose fraud changes")
    legend(axes)
    date_axis(axes)
    return figure
