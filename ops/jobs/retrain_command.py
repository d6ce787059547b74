"""`headgate retrain`: puts a pass and its schedule together with the settings, and shows each outcome."""

import json
import re
from datetime import timedelta

from rich.console import Console
from rich.table import Table

from models.checkpoint import CheckpointStore
from models.distributed import Processes, training_processes
from models.gate import Comparison
from models.labels import History
from models.sequences import TrainingConfig
from models.train_detector import TrainingResult, help_training
from ops.clock import utc_now
from ops.compose import choose_device, read_rates
from ops.jobs.challenge import Progress, RetrainingRules
from ops.jobs.retrain import Outcome, Workplace, retrain_once
from ops.jobs.retrain_schedule import Schedule, retrain_until_stopped, stoppable, stopped_by_signals
from ops.jobs.train import train_on_one_thread
from ops.progress import progress_bar
from ops.settings import Settings
from storage.database import open_database
from storage.registry import ModelRegistry

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class BadSchedule(ValueError):
    """A span of time cannot be read; the message says of which option."""


def run_retraining(
    settings: Settings,
    rules: RetrainingRules,
    *,
    once: bool,
    every: str,
    new_labels: int | None,
    on_drift: bool,
    as_json: bool,
) -> None:
    """Until the pass is over, or without `once` until a signal; in all processes that torchrun started. Raises
    AlreadyRunning, BadSchedule, DatabaseUnavailable and, with `once`, TrainingRefused and RetrainingStopped."""
    schedule = Schedule(parse_span(every), new_labels, on_drift)
    with training_processes(choose_device(settings.device)) as them:
        if them.count > 1 and not once:
            raise BadSchedule("several processes make one pass: give --once, and start them as often as you like")
        if not them.is_first:
            help_training(them)
            return
        retrain_here(settings, rules, schedule, them, once=once, as_json=as_json)
        them.share({})


def retrain_here(
    settings: Settings,
    rules: RetrainingRules,
    schedule: Schedule,
    processes: Processes,
    *,
    once: bool,
    as_json: bool,
) -> None:
    stopping = stopped_by_signals()
    database = open_database(settings.database.get_secret_value())
    database.check()
    registry, rates = ModelRegistry(database, settings.models), read_rates(settings.rates)

    def trainer(
        history: History, config: TrainingConfig, progress: Progress, checkpoints: CheckpointStore
    ) -> TrainingResult:
        return train_on_one_thread(history, config, progress, checkpoints, processes)

    def one_pass() -> Outcome:
        with progress_bar(as_json) as progress:
            work = Workplace(database, registry, rates, utc_now, stoppable(progress, stopping), trainer)
            return retrain_once(work, rules)

    def announce(outcome: Outcome) -> None:
        if as_json:
            print(json.dumps(outcome.as_json()), flush=True)
        else:
            console = Console()
            console.print(outcome_table(outcome))
            console.print(outcome.reason, markup=False, highlight=False, soft_wrap=True)

    if once:
        announce(one_pass())
    else:
        retrain_until_stopped(one_pass, announce, database, schedule, utc_now, stopping)


def parse_span(text: str, option: str = "--every") -> timedelta:
    """7d, 24h, 30m or 90s."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found is None or not float(found[1]):
        raise BadSchedule(f"{option} must be like 7d, 24h, 30m or 90s, not {text!r}")
    return timedelta(**{UNITS[found[2]]: float(found[1])})


def outcome_table(outcome: Outcome) -> Table:
    table = Table(title=f"retraining: {outcome.decision}", title_justify="left", caption_justify="left")
    for name in ("measure", "champion", "challenger", "difference", "interval"):
        table.add_column(name, justify="left" if name == "measure" else "right")
    table.add_row("model", outcome.champion or "-", outcome.challenger or "-", "", "")
    if outcome.verdict is not None:
        verdict = outcome.verdict
        add_comparison(table, "average precision", verdict.average_precision)
        add_comparison(table, "precision at the alert budget", verdict.precision_at_budget)
        table.caption = (
            f"judged on {verdict.events:,} matured events, {verdict.frauds:,} frauds in "
            f"{verdict.accounts_with_fraud:,} accounts"
        )
    return table


def add_comparison(table: Table, name: str, found: Comparison | None) -> None:
    if found is not None:
        interval = f"{found.low:+.3f} to {found.high:+.3f}"
        table.add_row(name, f"{found.champion:.3f}", f"{found.challenger:.3f}", f"{found.difference:+.3f}", interval)
