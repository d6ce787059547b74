"""`headgate models compress`: smaller forms of the champion, registered with their figures, and which of them, or the
champion as it is, a worker should run.

How forms are made and judged is compressed_forms.py's business, the choice deployed_form.py's. The champion changes
only where that was asked for.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from models.compress import CannotCompress
from models.data_quality import DataQuality
from models.events import MILLISECONDS_A_DAY
from models.labels import History
from ops.jobs.challenge import RetrainingRules
from ops.jobs.compressed_forms import METHODS, Measure, MeasuredForm, Method, judged_form, measured_forms, plans
from ops.jobs.data_check import refuse_broken, stored_and_checked
from ops.jobs.deployed_form import Choice, Form, choose_form
from ops.jobs.retrain import LOCK, Champion, Workplace, name_of, present_champion
from ops.jobs.step_time import StepSeconds, step_seconds
from ops.jobs.train import recorded_run, register_detector
from storage.exclusive import exclusively
from storage.registry import ModelRecord
from storage.training_data import cut_now, finish_training_run
from streams.detection import MODEL_NAME

JOB = "compress"
HOUR = MILLISECONDS_A_DAY // 24
CHAMPION = "the champion as it is"


@dataclass(frozen=True, slots=True)
class CompressionRules:
    """hidden: units that stay, None for an eighth; events_per_second: that one worker has to bear, None for the
    busiest hour of the history; promote: the chosen form becomes the champion."""

    methods: Sequence[Method] = METHODS
    hidden: int | None = None
    budget_seconds: float = 0.5
    events_per_second: float | None = None
    promote: bool = False
    retraining: RetrainingRules = field(default_factory=RetrainingRules)


@dataclass(frozen=True, slots=True)
class CompressionOutcome:
    """forms: with the versions under which they are registered; chosen: None where the champion stays as it is."""

    champion: Champion
    champion_seconds: StepSeconds
    forms: Sequence[tuple[MeasuredForm, ModelRecord]]
    choice: Choice
    chosen: ModelRecord | None
    promoted: bool

    def as_json(self) -> dict[str, Any]:
        forms = {
            name_of(record): {**form.figures(), "verdict": form.judged.challenge.verdict.figures()}
            for form, record in self.forms
        }
        return {
            "champion": name_of(self.champion.record),
            "forms": forms,
            "chosen": name_of(self.chosen or self.champion.record),
            "keeps_budget": self.choice.keeps_budget,
            "reason": self.choice.reason,
            "promoted": self.promoted,
        }


def compress_champion(work: Workplace, rules: CompressionRules, measure: Measure = step_seconds) -> CompressionOutcome:
    """Raises AlreadyRunning, CannotCompress, DatabaseUnavailable, and TrainingRefused with what the history lacks."""
    with exclusively(work.database, LOCK) as still_held:
        champion = present_champion(work.registry)
        if champion is None:
            raise CannotCompress("there is no champion to compress; `headgate train` makes one")
        wanted = plans(champion.model.network, rules.methods, rules.hidden)
        with recorded_run(work.database, as_json(rules), work.clock) as run_id:
            horizon = rules.retraining.label_horizon
            cut = cut_now(work.database, work.clock())
            history, quality = stored_and_checked(work.database, work.rates, cut, horizon, work.progress)
            refuse_broken(quality)
            judged = [
                judged_form(history, champion.incumbent, each, rules.retraining, work.progress) for each in wanted
            ]
            forms = measured_forms(champion.incumbent, judged, measure)
            choice = choice_of(forms, rules, rules.events_per_second or busiest_rate(history))
            still_held()
            outcome = registered(work, rules, champion, forms, choice, run_id, quality)
            finish_training_run(work.database, run_id, work.clock(), "succeeded", metrics=outcome.as_json())
        return outcome


def choice_of(forms: Sequence[MeasuredForm], rules: CompressionRules, events_per_second: float) -> Choice:
    """Of these and the champion itself, which needs to pass nothing."""
    one = forms[0]
    itself = Form(CHAMPION, one.judged.precision.champion, True, one.champion_seconds)
    return choose_form([itself, *(form.as_form() for form in forms)], rules.budget_seconds, events_per_second)


def busiest_rate(history: History) -> float:
    """Events a second in the hour of the history that had most."""
    return float(np.unique(history.occurred_at // HOUR, return_counts=True)[1].max()) / 3600


def registered(
    work: Workplace,
    rules: CompressionRules,
    champion: Champion,
    forms: Sequence[MeasuredForm],
    choice: Choice,
    run_id: str,
    data: DataQuality,
) -> CompressionOutcome:
    """All of them; the chosen one last, as the challenger, and as the champion where that was asked for and nobody
    changed the champion meanwhile."""
    records: list[tuple[MeasuredForm, ModelRecord]] = []
    chosen, promoted = None, False
    for form in sorted(forms, key=lambda form: form.name == choice.form.name):
        is_chosen = form.name == choice.form.name
        record = register_detector(
            work.registry,
            form.judged.result,
            form.judged.challenge.taught,
            work.clock,
            data=data,
            run_id=run_id,
            alias="challenger" if is_chosen else None,
            why=None,
            more={"compressed_from": name_of(champion.record), **form.figures()},
        )
        records.append((form, record))
        if is_chosen:
            chosen = record
    if chosen is not None and rules.promote:
        chosen, promoted = promote_unless_changed(work, champion, chosen, choice)
    return CompressionOutcome(champion, forms[0].champion_seconds, records, choice, chosen, promoted)


def promote_unless_changed(
    work: Workplace, champion: Champion, chosen: ModelRecord, choice: Choice
) -> tuple[ModelRecord, bool]:
    """What was proven was proven against this champion."""
    now = work.registry.champion(MODEL_NAME)
    if now is None or name_of(now) != name_of(champion.record):
        return chosen, False
    why = f"by `headgate models compress`: {choice.reason}"
    return work.registry.promote(MODEL_NAME, chosen.version, why, work.clock), True


def as_json(rules: CompressionRules) -> dict[str, Any]:
    """For `training_runs.config`."""
    said = asdict(rules)
    said["retraining"]["label_horizon"] = rules.retraining.label_horizon.total_seconds()
    return {**said, "job": JOB}
