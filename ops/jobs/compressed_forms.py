"""Smaller forms of a champion, each judged against it as a retrained challenger is, with what it costs in quality and
gains in speed.

How a detector is made smaller is models/compress.py's business, how challengers are judged challenge.py's. Nothing here
knows SQL or the registry.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from models.artifact import TrainedDetector
from models.compress import Pupils, distilled, pruned, quantised
from models.detector import Detector
from models.gate import Comparison
from models.labels import History
from models.sequences import TrainingConfig, TrainingRefused
from models.train_detector import TrainingResult, train
from ops.jobs.challenge import Challenge, Incumbent, Progress, RetrainingRules, challenge
from ops.jobs.deployed_form import Form
from ops.jobs.step_time import StepSeconds, step_seconds

Method = Literal["prune", "distil", "quantise"]
METHODS: tuple[Method, ...] = ("prune", "distil", "quantise")
NAMES: Mapping[Method, str] = {
    "prune": "the pruned form",
    "distil": "the distilled form",
    "quantise": "the quantised form",
}
#: Of the champion's units, the share that stays where nothing is said, and how many at least.
KEPT_SHARE, LEAST_KEPT = 1 / 8, 16
#: What is left of a pruned detector needs no more than a little mending.
TUNING_EPOCHS, TUNING_RATE = 3, 1e-3

Measure = Callable[[Sequence[TrainedDetector]], Sequence[StepSeconds]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a form is made. changes: of the configuration that a retrained challenger would have."""

    method: Method
    units: int
    pupils: Pupils
    changes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JudgedForm:
    """precision: the average precision of champion and form, with the interval of the difference."""

    plan: Plan
    challenge: Challenge
    result: TrainingResult
    precision: Comparison

    @property
    def passed(self) -> bool:
        return self.challenge.verdict.decision == "promote"


@dataclass(frozen=True, slots=True)
class MeasuredForm:
    """step_seconds, champion_seconds: of a batch, by its events, of the form and of the champion."""

    judged: JudgedForm
    file_bytes: int
    step_seconds: StepSeconds
    champion_seconds: StepSeconds

    @property
    def speedup(self) -> dict[int, float]:
        return {size: self.champion_seconds[size] / seconds for size, seconds in self.step_seconds.items()}

    @property
    def name(self) -> str:
        return NAMES[self.judged.plan.method]

    def as_form(self) -> Form:
        return Form(self.name, self.judged.precision.challenger, self.judged.passed, self.step_seconds)

    def figures(self) -> dict[str, Any]:
        """What the registry keeps beside the training's metrics. Lost is what the champion has more."""
        lost = self.judged.precision
        return {
            "compression": self.judged.plan.method,
            "hidden": self.judged.plan.units,
            "average_precision_lost": -lost.difference,
            "intervals": {"average_precision_lost": [-lost.high, -lost.low]},
            "file_bytes": self.file_bytes,
            **{f"speedup_{size}": ratio for size, ratio in self.speedup.items()},
            **{f"step_microseconds_{size}": 1e6 * each / size for size, each in self.step_seconds.items()},
        }


def plans(champion: Detector, methods: Sequence[Method], hidden: int | None) -> list[Plan]:
    """hidden: units that stay, None for an eighth. Raises CannotCompress."""
    whole = champion.config.hidden
    units = hidden or max(round(whole * KEPT_SHARE), min(LEAST_KEPT, whole // 2))
    made: dict[Method, Callable[[], Plan]] = {
        "prune": lambda: Plan(
            "prune", units, pruned(champion, units), {"epochs": TUNING_EPOCHS, "learning_rate": TUNING_RATE}
        ),
        "distil": lambda: Plan("distil", units, distilled(champion, units), {}),
        "quantise": lambda: Plan("quantise", whole, quantised(champion), {"epochs": 0}),
    }
    return [made[method]() for method in methods]


def judged_form(
    history: History, champion: Incumbent, plan: Plan, rules: RetrainingRules, progress: Progress
) -> JudgedForm:
    """It need not be better than the champion, only not worse by more than the gate's margin. Raises TrainingRefused,
    also where there is too little to judge by."""

    def trainer(history: History, config: TrainingConfig, progress: Progress) -> TrainingResult:
        torch.set_num_threads(1)
        return train(history, replace(config, **plan.changes), progress, pupil=plan.pupils)

    def told(stage: str, share: float) -> None:
        progress(f"{plan.method}: {stage}", share)

    found = challenge(history, champion, replace(rules, hidden=plan.units), trainer, told, "refresh")
    if found.result is None or found.verdict.average_precision is None:
        raise TrainingRefused(f"nothing can be judged: {found.verdict.reason}")
    return JudgedForm(plan, found, found.result, found.verdict.average_precision)


def measured_forms(
    champion: Incumbent, judged: Sequence[JudgedForm], measure: Measure = step_seconds
) -> list[MeasuredForm]:
    """measure: as step_seconds."""
    before, *after = measure([champion.model, *(form.result.model for form in judged)])
    return [
        MeasuredForm(form, len(form.result.model.to_bytes()), seconds, before)
        for form, seconds in zip(judged, after, strict=True)
    ]
