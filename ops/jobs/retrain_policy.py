"""One pass of the recommender's learning loop: a policy from stored slates and what came of them, judged on later
slates that it never saw, promoted on evidence or not.

The latest third of the slates with complete rewards is for the judgement alone. The first policy is judged against
what made those slates (popularity), every later one against the champion, on the same slates. Promotion in the registry
is all that happens in the end: running workers look there.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from models.artifact import BadModel
from models.guard_rails import SlateRules
from models.logged_slates import LoggedSlates
from models.model_card import CARD
from models.policy import TrainedPolicy
from models.policy_card import PolicyFacts, policy_card
from models.policy_gate import Kind, PolicyGateRules, PolicyVerdict, judge
from models.policy_history import PolicyHistory, PolicyTrainingRefused
from models.policy_replay import Replay
from models.train_policy import PolicyTrainingConfig, PolicyTrainingResult, train_policy
from ops.jobs.policy_history import policy_history
from ops.jobs.train import TRAINED_UNTIL, recorded_run
from storage.database import Database
from storage.exclusive import exclusively
from storage.registry import CorruptModel, ModelRecord, ModelRegistry
from storage.training_data import fail_abandoned_runs, finish_training_run
from streams.policy_watch import POLICY_KIND, POLICY_NAME

#: How these runs are told from others in `training_runs`, and the name of their lock.
JOB, LOCK = "retrain", "retraining-policy"
ABANDONED = "the process ended before the run did"
#: Of the item contents that a policy reads (models/item_content.py).
CONTENT_SCHEMA = 2

Progress = Callable[[str, float], None]
PolicyTrainer = Callable[[PolicyHistory, PolicyTrainingConfig, Progress], PolicyTrainingResult]


@dataclass(frozen=True, slots=True)
class PolicyRules:
    """history: how far back engagements are read; judged_share: the latest part of the matured slates, for the
    judgement alone."""

    slates: SlateRules = field(default_factory=SlateRules)
    training: PolicyTrainingConfig = field(default_factory=PolicyTrainingConfig)
    gate: PolicyGateRules = field(default_factory=PolicyGateRules)
    reward_window: timedelta = timedelta(hours=24)
    history: timedelta = timedelta(days=90)
    judged_share: float = 1 / 3

    def as_json(self) -> dict[str, Any]:
        """For `training_runs.config`."""
        spans = {name: getattr(self, name).total_seconds() for name in ("reward_window", "history")}
        return {**asdict(self), **spans, "job": JOB}


@dataclass(frozen=True, slots=True)
class PolicyWorkplace:
    """items_topic: with its prefix; device: where replays compute."""

    database: Database
    registry: ModelRegistry
    items_topic: str
    clock: Callable[[], datetime]
    progress: Progress
    device: str = "cpu"
    trainer: PolicyTrainer = train_policy


@dataclass(frozen=True, slots=True)
class PolicyOutcome:
    """How a pass ended. champion: before it, None where there was none."""

    decision: str
    reason: str
    champion: str | None
    challenger: str
    verdict: PolicyVerdict
    metrics: Mapping[str, float]

    @property
    def promoted(self) -> bool:
        return self.decision == "promote"

    def in_short(self) -> dict[str, Any]:
        """What `training_runs` keeps beside the training's figures. The verdict's own decision differs where another
        became champion during the run."""
        return {
            "decision": self.decision,
            "reason": self.reason,
            "champion": self.champion,
            "verdict": self.verdict.figures(),
        }

    def as_json(self) -> dict[str, Any]:
        return {**self.in_short(), "challenger": self.challenger, "metrics": dict(self.metrics)}


def retrain_policy_once(work: PolicyWorkplace, rules: PolicyRules) -> PolicyOutcome:
    """Raises AlreadyRunning, DatabaseUnavailable, and PolicyTrainingRefused with what the history lacks."""
    with exclusively(work.database, LOCK) as still_held:
        fail_abandoned_runs(work.database, POLICY_NAME, JOB, work.clock(), ABANDONED)
        with recorded_run(work.database, rules.as_json(), work.clock, POLICY_NAME) as run_id:
            outcome = _pass(work, rules, still_held, run_id)
            finish_training_run(
                work.database,
                run_id,
                work.clock(),
                "succeeded" if outcome.promoted else "refused",
                metrics={**outcome.metrics, **outcome.in_short()},
                message=f"{outcome.decision}: {outcome.reason}",
            )
        return outcome


def _pass(work: PolicyWorkplace, rules: PolicyRules, still_held: Callable[[], None], run_id: str) -> PolicyOutcome:
    now, champion = work.clock(), work.registry.champion(POLICY_NAME)
    work.progress("history", 0.0)
    stored = policy_history(
        work.database,
        items_topic=work.items_topic,
        now=now,
        since=now - rules.history,
        reward_window=rules.reward_window,
        progress=lambda: work.progress("history", 0.0),
    )
    work.progress("history", 1.0)
    taught = before_judgement(stored.history, rules.judged_share)
    result = work.trainer(taught, rules.training, work.progress)
    until = trained_until(taught)
    challenger = work.registry.register(
        POLICY_NAME,
        POLICY_KIND,
        result.model.to_bytes(),
        feature_schema=CONTENT_SCHEMA,
        metrics={
            **result.metrics,
            TRAINED_UNTIL: datetime.fromtimestamp(until / 1000, UTC).isoformat(),
            CARD: policy_card(facts_of(taught, result, rules)).as_json(),
        },
        clock=work.clock,
        run_id=run_id,
        alias="challenger",
    )
    work.progress("judgement", 0.0)
    replay = Replay(stored.history, stored.catalogue, rules.slates, torch.device(work.device))
    verdict = _judged(work.registry, replay, champion, challenger, result.model, until, rules.gate)
    work.progress("judgement", 1.0)
    before = None if champion is None else str(champion)
    outcome = PolicyOutcome(
        verdict.decision, " ".join(verdict.reasons), before, str(challenger), verdict, result.metrics
    )
    return _promoted(work, outcome, challenger, still_held) if outcome.promoted else outcome


def before_judgement(history: PolicyHistory, judged_share: float) -> PolicyHistory:
    """What may teach: engagements and matured slates before the latest part of the matured slates. Raises
    PolicyTrainingRefused."""
    slates = history.slates
    matured = np.flatnonzero(slates.matured)
    if not len(matured):
        raise PolicyTrainingRefused(
            f"none of {len(slates)} slates is older than the reward window; there is nothing to learn from yet"
        )
    end = float(np.quantile(slates.made_at[matured], 1 - judged_share, method="higher"))
    kept = np.flatnonzero(slates.matured & (slates.made_at < end))
    told = int(np.searchsorted(history.engagements.occurred_at, end))
    kept = kept[history.cause[kept] < told]
    return PolicyHistory(
        history.engagements.take(np.arange(told)),
        history.item[:told],
        slates.take(kept),
        history.cause[kept],
        history.items,
    )


def facts_of(taught: PolicyHistory, result: PolicyTrainingResult, rules: PolicyRules) -> PolicyFacts:
    hours = rules.reward_window / timedelta(hours=1)
    return PolicyFacts(taught, result.metrics, asdict(rules.training), hours, version("headgate"))


def trained_until(taught: PolicyHistory) -> int:
    """Epoch milliseconds of the latest slate that taught."""
    return int(taught.slates.made_at.max(initial=0))


def _judged(
    registry: ModelRegistry,
    replay: Replay,
    champion: ModelRecord | None,
    challenger: ModelRecord,
    policy: TrainedPolicy,
    until: int,
    rules: PolicyGateRules,
) -> PolicyVerdict:
    slates = replay.history.slates
    if champion is None:
        baseline, number = slates.log_weights, challenger.version
    else:
        baseline = replay.log_weights(_loaded(registry, champion))
        said = champion.metrics.get(TRAINED_UNTIL)
        until = max(until, round(datetime.fromisoformat(said).timestamp() * 1000) if said else 0)
        number = max(1, challenger.version - champion.version)
    own = replay.log_weights(policy)
    kind: Kind = "design" if champion is None else "refresh"
    return judge(
        slates, baseline, own, kind, trained_until=until, number=number, rules=at_one_look(rules, slates, until)
    )


def at_one_look(rules: PolicyGateRules, slates: LoggedSlates, until: int) -> PolicyGateRules:
    """Each challenger is looked at once, on a number of slates that nothing they earned decides; bounds that are
    tightest there are as sound as any, and much tighter on few slates."""
    judged = int((slates.matured & (slates.made_at > until)).sum())
    return replace(rules, tightest_at=max(judged, 1))


def _loaded(registry: ModelRegistry, champion: ModelRecord) -> TrainedPolicy:
    try:
        return TrainedPolicy.from_bytes(registry.load(champion))
    except (BadModel, CorruptModel) as error:
        raise PolicyTrainingRefused(
            f"the champion {champion} cannot be compared with: {error}; promote another with `headgate models promote`"
        ) from error


def _promoted(
    work: PolicyWorkplace, outcome: PolicyOutcome, challenger: ModelRecord, still_held: Callable[[], None]
) -> PolicyOutcome:
    """Unless someone changed the champion during the run: what was proven was proven against another."""
    still_held()
    now = work.registry.champion(POLICY_NAME)
    if (None if now is None else str(now)) != outcome.champion:
        reason = f"the champion became {now or 'none'} during the run"
        return PolicyOutcome("refuse", reason, outcome.champion, outcome.challenger, outcome.verdict, outcome.metrics)
    why = f"by `headgate retrain`: {outcome.reason}"
    work.registry.promote(POLICY_NAME, challenger.version, why, work.clock)
    return outcome
