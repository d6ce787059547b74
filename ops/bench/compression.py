"""`headgate bench compression`: what making a large detector small costs in quality and gains in speed.

A detector of many units learns from simulated payments whose fraud lies in their order (ops/simulate/order.py), and is
made smaller as `headgate models compress` does it. Champion and forms score the same later payments through the code
that runs live; the intervals are those of the gate, over accounts. A detector of the small size that learns from
nothing as the large one did stands beside them. Labels tell nothing of merchants here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from models.events import Events
from models.labels import LabelledHistory
from models.sequences import TrainingConfig
from ops.bench.order import NEVER
from ops.bench.products import product_times
from ops.jobs.challenge import Incumbent, RetrainingRules, challenge
from ops.jobs.compressed_forms import METHODS, Measure, MeasuredForm, judged_form, measured_forms, plans
from ops.jobs.step_time import BATCHES, step_seconds
from ops.jobs.train import train_on_one_thread
from ops.progress import progress_bar
from ops.simulate.order import OrderConfig, order_transactions

ANEW = "small, trained anew"
ALERTS_PER_DAY = 20.0
Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class CompressionBench:
    """trained_share: of the payments, the first, that teach; the others judge. Few teach, so that there is something to
    lose: with all that `bench order` trains on, a detector of 16 units makes hardly a mistake."""

    hidden: int = 256
    kept: int = 32
    epochs: int = 16
    trained_share: float = 0.35
    data: OrderConfig = field(default_factory=lambda: OrderConfig(accounts=1_000))
    products: Sequence[int] = (256, 32)
    product_rounds: int = 30


def run_compression(
    seeds: Sequence[int], config: CompressionBench, *, quiet: bool, measure: Measure = step_seconds
) -> dict[str, Any]:
    """The result as `--json` prints it; shown as a table unless quiet. The speedup is that of the pruned form, the
    least of all batch sizes; what it lost the mean over seeds. Raises TrainingRefused."""
    found: dict[str, dict[str, Any]] = {}
    with progress_bar(quiet) as progress:
        for number, seed in enumerate(dict.fromkeys(seeds)):
            progress("seeds", number / len(seeds))
            found[str(seed)] = of_seed(replace(config, data=replace(config.data, seed=seed)), measure, progress)
        progress("seeds", 1.0)
    methods = {method: over_seeds([figures[method] for figures in found.values()]) for method in METHODS}
    result = {
        "speedup": min(methods["prune"]["speedup"].values()),
        "ap_lost": methods["prune"]["ap_lost"],
        "methods": methods,
        "hidden": config.hidden,
        "kept": config.kept,
        "champion_ap": float(np.mean([figures["champion_ap"] for figures in found.values()])),
        "anew_ap": float(np.mean([figures["anew_ap"] for figures in found.values()])),
        "seeds": found,
        "product_microseconds": product_times(config.products, BATCHES, config.product_rounds),
    }
    if not quiet:
        show(result, Console())
    return result


def of_seed(config: CompressionBench, measure: Measure, progress: Progress) -> dict[str, Any]:
    history, count = order_history(config)
    training = TrainingConfig(
        hidden=config.hidden, epochs=config.epochs, alerts_per_day=ALERTS_PER_DAY, seed=config.data.seed
    )
    result = train_on_one_thread(history.first(count), training, progress)
    champion = Incumbent(result.model, int(history.occurred_at[count - 1]), ALERTS_PER_DAY)
    rules = RetrainingRules(
        judged_share=1 - config.trained_share, enough_frauds=None, epochs=config.epochs, seed=config.data.seed
    )
    wanted = plans(result.model.network, METHODS, config.kept)
    judged = [judged_form(history, champion, plan, rules, progress) for plan in wanted]
    forms = measured_forms(champion, judged, measure)
    anew = challenge(history, champion, replace(rules, hidden=config.kept), train_on_one_thread, progress)
    assert anew.verdict.average_precision is not None  # the forms were judged on the same events
    return {
        "events": len(history),
        "trained_events": count,
        "judged_frauds": judged[0].challenge.verdict.frauds,
        "champion_ap": judged[0].precision.champion,
        "champion_bytes": len(result.model.to_bytes()),
        "champion_step_microseconds": {str(n): 1e6 * s / n for n, s in forms[0].champion_seconds.items()},
        "anew_ap": anew.verdict.average_precision.challenger,
        **{form.judged.plan.method: figures_of(form) for form in forms},
    }


def order_history(config: CompressionBench) -> tuple[LabelledHistory, int]:
    """Payments with all labels, and how many of the first teach."""
    payments = order_transactions(config.data)
    events = Events.from_columns(payments.columns())
    history = LabelledHistory(
        events=events,
        labels=payments.fraud.astype(np.int8),
        known_at=np.full(len(events), events.occurred_at[-1]),
        horizon=round(NEVER.total_seconds() * 1000),
    )
    return history, int(len(events) * config.trained_share)


def figures_of(form: MeasuredForm) -> dict[str, Any]:
    lost = form.judged.precision
    return {
        "ap": lost.challenger,
        "ap_lost": -lost.difference,
        "ap_lost_low": -lost.high,
        "ap_lost_high": -lost.low,
        "gate": form.judged.challenge.verdict.decision,
        "hidden": form.judged.plan.units,
        "file_bytes": form.file_bytes,
        "speedup": {str(size): ratio for size, ratio in form.speedup.items()},
        "step_microseconds": {str(size): 1e6 * each / size for size, each in form.step_seconds.items()},
    }


def over_seeds(figures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means; passed: the gate, in so many of the seeds."""
    return {
        "ap": float(np.mean([each["ap"] for each in figures])),
        "ap_lost": float(np.mean([each["ap_lost"] for each in figures])),
        "passed": sum(each["gate"] == "promote" for each in figures),
        "file_bytes": round(float(np.mean([each["file_bytes"] for each in figures]))),
        "speedup": {
            size: float(np.mean([each["speedup"][size] for each in figures])) for size in figures[0]["speedup"]
        },
    }


def show(result: Mapping[str, Any], console: Console) -> None:
    """For a person; fits 80 columns."""
    table = Table(title=f"{result['hidden']} units made {result['kept']}: average precision", title_justify="left")
    for name in ("seed", "champion", *METHODS, ANEW):
        table.add_column(name, justify="left" if name == "seed" else "right")
    for seed, found in result["seeds"].items():
        cells = [
            f"{found[m]['ap']:.3f} ({-found[m]['ap_lost_high']:+.3f} to {-found[m]['ap_lost_low']:+.3f})"
            for m in METHODS
        ]
        table.add_row(seed, f"{found['champion_ap']:.3f}", *cells, f"{found['anew_ap']:.3f}")
    console.print(table)
    table = Table(title="Times faster than the champion, by events of a batch", title_justify="left")
    sizes = list(result["methods"]["prune"]["speedup"])
    for name in ("form", *sizes, "bytes"):
        table.add_column(name, justify="left" if name == "form" else "right")
    for method, found in result["methods"].items():
        table.add_row(method, *(f"{found['speedup'][size]:.2f}" for size in sizes), f"{found['file_bytes']:,}")
    console.print(table)
    table = Table(title="The GRU's step alone, microseconds an event", title_justify="left")
    for name in ("units", "product", *sizes):
        table.add_column(name, justify="left" if name in ("units", "product") else "right")
    for units, kinds in result["product_microseconds"].items():
        for kind, found in kinds.items():
            table.add_row(units, kind, *(f"{found[size]:.2f}" for size in sizes))
    console.print(table)
