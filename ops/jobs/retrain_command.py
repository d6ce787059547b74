"""`headgate retrain`: puts a pass and its schedule together with the settings, and shows each outcome."""

import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import structlog
from rich.console import Console
from rich.table import Table

from models.checkpoint import CheckpointStore
from models.distributed import Processes, training_processes
from models.gate import Comparison
from models.labels import History
from models.policy_history import PolicyTrainingRefused
from models.sequences import TrainingConfig, TrainingRefused
from models.train_detector import TrainingResult, help_training
from ops.clock import utc_now
from ops.compose import choose_device, read_rates
from ops.health_server import HealthServer
from ops.jobs.challenge import Progress, RetrainingRules
from ops.jobs.retrain import LOCK, Outcome, Workplace, retrain_once
from ops.jobs.retrain_metrics import RetrainingMetrics
from ops.jobs.retrain_policy import LOCK as POLICY_LOCK
from ops.jobs.retrain_policy import PolicyOutcome, PolicyRules, PolicyWorkplace, retrain_policy_once
from ops.jobs.retrain_schedule import Learner, Schedule, retrain_until_stopped, stoppable, stopped_by_signals
from ops.jobs.train import train_on_one_thread
from ops.model_registry import open_registry
from ops.progress import progress_bar
from ops.settings import Settings
from storage.database import Database, open_database
from storage.policy_data import has_slates
from storage.registry import ModelRegistry
from streams.detection import MODEL_NAME
from streams.policy_watch import POLICY_NAME

log = structlog.get_logger(__name__)

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class BadSchedule(ValueError):
    """A span of time cannot be read; the message says of which option."""


def run_retraining(
    settings: Settings,
    rules: RetrainingRules,
    policy_rules: PolicyRules,
    *,
    only: str | None,
    once: bool,
    every: str,
    new_labels: int | None,
    on_drift: bool,
    as_json: bool,
) -> None:
    """Until the pass is over, or without `once` until a signal; in all processes that torchrun started. only: the name
    of the model, None for both. Raises AlreadyRunning, BadSchedule, DatabaseUnavailable, with `once` TrainingRefused,
    PolicyTrainingRefused and RetrainingStopped, and without it CannotListen."""
    schedule = Schedule(parse_span(every), new_labels, on_drift)
    with training_processes(choose_device(settings.device)) as them:
        if them.count > 1 and not once:
            raise BadSchedule("several processes make one pass: give --once, and start them as often as you like")
        if not them.is_first:
            help_training(them)
            return
        with open_work(settings, them, as_json) as work:
            learners = [work.policy(policy_rules, Schedule(schedule.every)), work.detector(rules, schedule)]
            wanted = [learner for learner in learners if only in (None, learner.model_name)]
            if once:
                retrain_each_once(wanted, work.database)
            else:
                keep_retraining(wanted, work)
        them.share({})


def keep_retraining(learners: Sequence[Learner], work: "Work") -> None:
    """With metrics and health over HTTP, until a signal."""
    metrics, settings = RetrainingMetrics(), work.settings
    server = HealthServer(settings.metrics_host, settings.retrain_metrics_port, metrics.registry, metrics.health)
    with server:
        log.info("retraining goes on", models=[learner.model_name for learner in learners], metrics=server.url)
        retrain_until_stopped(learners, work.database, utc_now, work.stopping, metrics)


def retrain_each_once(learners: Sequence[Learner], database: Database) -> None:
    """Of several models, one that has nothing to learn from does not keep the others from it."""
    if len(learners) > 1 and not has_slates(database):
        learners = [learner for learner in learners if learner.model_name != POLICY_NAME]
    refusals = []
    for learner in learners:
        try:
            learner.one_pass()
        except (TrainingRefused, PolicyTrainingRefused) as refusal:
            refusals.append(refusal)
            log.warning("retraining refused", model=learner.model_name, why=str(refusal))
    if len(refusals) == len(learners):
        raise refusals[-1]


@dataclass(frozen=True, slots=True)
class Work:
    """What passes of either model need."""

    settings: Settings
    database: Database
    registry: ModelRegistry
    processes: Processes
    stopping: threading.Event
    as_json: bool

    def detector(self, rules: RetrainingRules, schedule: Schedule) -> Learner:
        rates = read_rates(self.settings.rates)

        def trainer(
            history: History, config: TrainingConfig, progress: Progress, checkpoints: CheckpointStore
        ) -> TrainingResult:
            return train_on_one_thread(history, config, progress, checkpoints, self.processes)

        def one_pass() -> Outcome:
            with progress_bar(self.as_json) as progress:
                reported = stoppable(progress, self.stopping)
                work = Workplace(self.database, self.registry, rates, utc_now, reported, trainer)
                outcome = retrain_once(work, rules)
            self.announce(outcome, outcome_table(outcome))
            return outcome

        return Learner(MODEL_NAME, LOCK, schedule, lambda: self.registry.champion(MODEL_NAME), one_pass)

    def policy(self, rules: PolicyRules, schedule: Schedule) -> Learner:
        def one_pass() -> PolicyOutcome:
            with progress_bar(self.as_json) as progress:
                work = PolicyWorkplace(
                    self.database,
                    self.registry,
                    f"{self.settings.topic_prefix}items",
                    utc_now,
                    stoppable(progress, self.stopping),
                    device=choose_device(self.settings.device),
                )
                outcome = retrain_policy_once(work, rules)
            self.announce(outcome, policy_table(outcome))
            return outcome

        return Learner(POLICY_NAME, POLICY_LOCK, schedule, lambda: self.registry.champion(POLICY_NAME), one_pass)

    def announce(self, outcome: Outcome | PolicyOutcome, table: Table) -> None:
        if self.as_json:
            print(json.dumps(outcome.as_json()), flush=True)
        else:
            console = Console()
            console.print(table)
            console.print(outcome.reason, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def open_work(settings: Settings, processes: Processes, as_json: bool) -> Iterator[Work]:
    stopping = stopped_by_signals()
    database = open_database(settings.database.get_secret_value())
    database.check()
    yield Work(settings, database, open_registry(settings, database, registers=True), processes, stopping, as_json)


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


def policy_table(outcome: PolicyOutcome) -> Table:
    table = Table(title=f"retraining the recommender: {outcome.decision}", title_justify="left", caption_justify="left")
    for name in ("reward per slate", "champion", "challenger", "difference"):
        table.add_column(name, justify="left" if name == "reward per slate" else "right")
    table.add_row("model", outcome.champion or "what is popular", outcome.challenger, "")
    evidence = outcome.verdict.evidence
    if evidence is not None:
        for name, one in evidence.estimators.items():
            row = (f"{one.champion:.4f}", f"{one.challenger:.4f}", f"{one.difference:+.4f}")
            table.add_row(name.replace("_", " "), *row)
        table.caption = (
            f"judged on {evidence.slates:,} slates; effective sample size {evidence.effective_sample_size:,.0f}"
        )
    return table
