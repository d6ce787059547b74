"""One pass of the recommender's learning loop on a stored shop: what is promoted, what is not, what is recorded."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import select

from models.policy import PolicyConfig, PolicyNetwork, TrainedPolicy
from models.policy_gate import PolicyGateRules
from models.policy_history import PolicyHistory, PolicyTrainingRefused
from models.train_policy import PolicyTrainingConfig, PolicyTrainingResult, train_policy
from ops.clock import utc_now
from ops.jobs.retrain_policy import LOCK, PolicyOutcome, PolicyRules, PolicyWorkplace, retrain_policy_once
from ops.jobs.train import TRAINED_UNTIL
from storage import tables
from storage.database import Database, open_database, upgrade
from storage.exclusive import AlreadyRunning, exclusively
from storage.registry import ModelRegistry
from streams.policy_watch import POLICY_KIND, POLICY_NAME
from tests.deployment import CHECKOUT
from tests.ops.retrain.stored_shop import END, RULES, later, store_shop

QUICK = PolicyTrainingConfig(hidden=24, click_epochs=3, actor_epochs=1)
GATE = PolicyGateRules(least_users=20, least_effective_rewards=40)


@dataclass
class Loop:
    """A stored shop, its registry, and passes over it. taught: what each training was given."""

    database: Database
    registry: ModelRegistry
    now: datetime = field(default_factory=lambda: later(25))
    taught: list[PolicyHistory] = field(default_factory=list)

    def once(
        self,
        *,
        model: TrainedPolicy | None = None,
        during: Callable[[], object] = lambda: None,
        **rules: Any,
    ) -> PolicyOutcome:
        """model: what training gives, in place of what is trained; during: what else happens meanwhile."""

        def trainer(
            history: PolicyHistory, config: PolicyTrainingConfig, progress: Callable[[str, float], None]
        ) -> PolicyTrainingResult:
            self.taught.append(history)
            during()
            return PolicyTrainingResult(model, {}) if model is not None else train_policy(history, config, progress)

        work = PolicyWorkplace(
            self.database, self.registry, "items", lambda: self.now, lambda stage, done: None, trainer=trainer
        )
        return retrain_policy_once(work, PolicyRules(**{"slates": RULES, "training": QUICK, "gate": GATE} | rules))

    def promoted(self, model: TrainedPolicy, trained_until: datetime | None = None) -> str:
        """By hand."""
        return self.promoted_bytes(model.to_bytes(), trained_until)

    def promoted_bytes(self, data: bytes, trained_until: datetime | None = None) -> str:
        record = self.registry.register(
            POLICY_NAME,
            POLICY_KIND,
            data,
            feature_schema=1,
            metrics={} if trained_until is None else {TRAINED_UNTIL: trained_until.isoformat()},
            clock=lambda: self.now,
            alias="champion",
            why="by hand",
        )
        return str(record)

    @property
    def champion(self) -> str | None:
        found = self.registry.champion(POLICY_NAME)
        return None if found is None else str(found)

    def runs(self) -> list[Any]:
        with self.database.reading() as connection:
            return list(
                connection.execute(select(tables.TrainingRun.__table__).order_by(tables.TrainingRun.started_at))
            )


@pytest.fixture(scope="module")
def stored_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    url = f"sqlite:///{folder / 'headgate.sqlite'}"
    upgrade(url)
    database = open_database(url)
    assert store_shop(database, folder / "models") == END
    database.engine.dispose()
    return folder / "headgate.sqlite"


@pytest.fixture
def loop(stored_file: Path, tmp_path: Path) -> Iterator[Loop]:
    database = open_database(f"sqlite:///{shutil.copy(stored_file, tmp_path)}")
    yield Loop(database, ModelRegistry(database, str(tmp_path / "models")))
    database.engine.dispose()


@pytest.fixture(scope="module")
def good(stored_file: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedPolicy:
    """What training makes of the shop."""
    folder = tmp_path_factory.mktemp("good")
    database = open_database(f"sqlite:///{shutil.copy(stored_file, folder)}")
    loop = Loop(database, ModelRegistry(database, str(folder / "models")))
    outcome = loop.once()
    assert outcome.promoted, outcome.reason
    database.engine.dispose()
    record = loop.registry.get(POLICY_NAME, 1)
    return TrainedPolicy.from_bytes(loop.registry.load(record))


def indifferent() -> TrainedPolicy:
    """To whom all items are equal: as good as random slates."""
    network = PolicyNetwork(PolicyConfig(hidden=4, vector=5))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    return TrainedPolicy(network.eval())


def contrary(policy: TrainedPolicy) -> TrainedPolicy:
    """Prefers what the other does not."""
    network = TrainedPolicy.from_bytes(policy.to_bytes()).network
    with torch.no_grad():
        network.actor_liking.neg_()
        for parameter in network.actor[-1].parameters():
            parameter.neg_()
        network.from_id.weight[:, -1].neg_()
        network.from_content.weight[-1].neg_()
    return TrainedPolicy(network.eval())


@pytest.mark.slow
def test_the_first_policy_is_judged_against_what_made_the_slates_and_promoted_when_it_is_better(loop: Loop) -> None:
    outcome = loop.once()
    assert outcome.promoted, outcome.reason
    assert (outcome.champion, outcome.challenger, loop.champion) == (None, "recommender:1", "recommender:1")
    verdict = outcome.verdict
    assert verdict.kind == "design"
    assert verdict.evidence is not None
    logged = verdict.evidence.estimators["ips"]
    assert verdict.evidence.mean_weights[0].value == pytest.approx(1.0)  # the baseline is what was logged
    judged = judged_rewards(loop)
    assert logged.champion == pytest.approx(judged.mean())
    assert verdict.evidence.slates == len(judged)
    assert outcome.verdict.low > 0
    record = loop.registry.champion(POLICY_NAME)
    assert record is not None
    assert TRAINED_UNTIL in record.metrics
    assert json.loads(json.dumps(outcome.as_json()))["decision"] == "promote"


def judged_rewards(loop: Loop) -> np.ndarray:
    """Of each slate after the last that taught."""
    until = datetime.fromtimestamp(loop.taught[-1].slates.made_at.max() / 1000, END.tzinfo)
    with loop.database.reading() as connection:
        rows = connection.exec_driver_sql(
            "SELECT r.recommendation_id, count(e.event_id) FILTER (WHERE e.action = 'click'), "
            "count(e.event_id) FILTER (WHERE e.action = 'impression'), max(r.made_at) "
            "FROM recommendations r LEFT JOIN engagements e ON e.recommendation_id = r.recommendation_id "
            "GROUP BY r.recommendation_id"
        ).all()
    return np.array([row[1] for row in rows if row[2] and as_moment(row[3]) > until], float)


def as_moment(text: Any) -> datetime:
    return datetime.fromisoformat(str(text)).replace(tzinfo=END.tzinfo)


@pytest.mark.slow
def test_the_latest_third_of_the_slates_is_for_the_judgement_alone(loop: Loop) -> None:
    outcome = loop.once()
    (taught,) = loop.taught
    assert outcome.verdict.evidence is not None
    share = outcome.verdict.evidence.slates / (outcome.verdict.evidence.slates + len(taught.slates))
    assert share == pytest.approx(1 / 3, abs=0.05)
    assert taught.slates.matured.all()
    assert taught.cause.max() < len(taught.engagements)


def test_a_policy_that_is_worse_than_what_is_popular_is_not_promoted(loop: Loop, good: TrainedPolicy) -> None:
    outcome = loop.once(model=contrary(good))
    assert outcome.decision == "refuse"
    assert "no better" in outcome.reason
    assert loop.champion is None


def test_a_policy_that_is_no_better_waits_for_evidence(loop: Loop) -> None:
    outcome = loop.once(model=indifferent())
    assert outcome.decision != "promote"
    assert loop.champion is None


@pytest.mark.slow
def test_a_later_policy_is_judged_against_the_champion(loop: Loop, good: TrainedPolicy) -> None:
    loop.promoted(indifferent())
    better = loop.once(model=good)
    assert (better.decision, better.champion, better.challenger) == ("promote", "recommender:1", "recommender:2")
    assert better.verdict.kind == "refresh"
    assert loop.champion == "recommender:2"
    worse = loop.once(model=indifferent())
    assert worse.decision == "refuse", worse.reason
    assert worse.champion == "recommender:2"
    assert loop.champion == "recommender:2"


def test_slates_that_taught_the_champion_judge_nobody(loop: Loop, good: TrainedPolicy) -> None:
    loop.promoted(indifferent(), trained_until=END)
    outcome = loop.once(model=good)
    assert outcome.decision == "not enough evidence"
    assert "Only 0 users" in outcome.reason


def test_every_further_challenger_of_a_champion_has_to_be_surer(loop: Loop, good: TrainedPolicy) -> None:
    loop.promoted(good)
    errors = [loop.once(model=indifferent()).verdict.error for _ in range(3)]
    assert errors == pytest.approx([GATE.error / (number * (number + 1)) for number in (1, 2, 3)])


def test_a_verdict_needs_enough_rewards(loop: Loop, good: TrainedPolicy) -> None:
    outcome = loop.once(model=good, gate=replace(GATE, least_effective_rewards=1e6))
    assert outcome.decision == "refuse"
    assert "more slates" in outcome.reason
    assert loop.champion is None


def test_slates_whose_rewards_are_not_complete_teach_nothing(loop: Loop) -> None:
    loop.now = END
    with pytest.raises(PolicyTrainingRefused, match=r"none of .* slates is older than the reward window"):
        loop.once()
    (run,) = loop.runs()
    assert run.status == "refused"
    assert "reward window" in run.message
    assert loop.registry.list() == []


def test_a_shop_without_slates_is_refused(loop: Loop) -> None:
    with loop.database.begin() as connection:
        for table in ("recommendation_items", "recommendations"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    with pytest.raises(PolicyTrainingRefused, match="none of 0 slates"):
        loop.once()


def test_nothing_older_than_the_history_is_read(loop: Loop) -> None:
    with pytest.raises(PolicyTrainingRefused, match="none of 0 slates"):
        loop.once(history=timedelta(hours=1))


def test_a_champion_that_changed_during_the_run_stays(loop: Loop, good: TrainedPolicy) -> None:
    outcome = loop.once(model=good, during=lambda: loop.promoted(indifferent()))
    assert outcome.decision == "refuse"
    assert outcome.reason == "the champion became recommender:1 during the run"
    assert (loop.champion, outcome.challenger) == ("recommender:1", "recommender:2")


@pytest.mark.parametrize("damage", ["no policy", "another file"])
def test_a_damaged_champion_is_named_and_stays(loop: Loop, good: TrainedPolicy, damage: str, tmp_path: Path) -> None:
    if damage == "no policy":
        loop.promoted_bytes(b"no policy")
    else:
        loop.promoted(good)
        (file,) = (path for path in (tmp_path / "models").rglob("*") if path.is_file())
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(PolicyTrainingRefused, match="champion recommender:1 cannot be compared with"):
        loop.once(model=good)
    assert loop.champion == "recommender:1"
    assert [(run.status, run.model_version) for run in loop.runs()] == [("refused", 2)]
    assert loop.registry.get(POLICY_NAME, 2).alias == "challenger"


def test_two_runs_at_once_are_one_too_many(loop: Loop) -> None:
    with exclusively(loop.database, LOCK), pytest.raises(AlreadyRunning):
        loop.once()
    assert loop.runs() == []


def test_a_run_records_its_rules_its_figures_and_its_reasons(loop: Loop, good: TrainedPolicy) -> None:
    promoted, refused = loop.once(model=good), loop.once(model=contrary(good))
    first, second = loop.runs()
    assert (first.status, first.model_version, first.message) == ("succeeded", 1, f"promote: {promoted.reason}")
    assert (second.status, second.model_version, second.message) == ("refused", 2, f"refuse: {refused.reason}")
    assert first.model_name == POLICY_NAME
    assert (first.config["job"], first.config["reward_window"]) == ("retrain", 86_400)
    verdict = second.metrics["verdict"]
    assert (verdict["decision"], verdict["reason"]) == ("refuse", refused.reason)
    assert verdict["reward_per_slate"]["low"] < verdict["reward_per_slate"]["high"] < 0
    told = [(run.metrics["decision"], run.metrics["reason"], run.metrics["champion"]) for run in (first, second)]
    assert told == [("promote", promoted.reason, None), ("refuse", refused.reason, "recommender:1")]
    assert verdict["estimators"]["doubly_robust"]["difference"] < 0


def test_a_failing_training_is_recorded_and_the_next_run_goes_on(loop: Loop, good: TrainedPolicy) -> None:
    def fail() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        loop.once(during=fail)
    assert loop.once(model=good).promoted
    assert [run.status for run in loop.runs()] == ["failed", "succeeded"]


@pytest.mark.service
def test_a_pass_on_postgresql_comes_to_the_same_verdict(
    loop: Loop, good: TrainedPolicy, postgres_url: str, tmp_path: Path
) -> None:
    upgrade(postgres_url)
    database = open_database(postgres_url)
    store_shop(database, tmp_path / "others")
    other = Loop(database, ModelRegistry(database, str(tmp_path / "others")))
    expected, found = loop.once(model=good), other.once(model=good)
    database.engine.dispose()
    assert found.promoted
    assert found.verdict.figures() == expected.verdict.figures()


def headgate_retrain(database: Database, folder: Path) -> "subprocess.CompletedProcess[str]":
    url = database.engine.url.render_as_string(hide_password=False)
    settings = {"DATABASE": url, "MODELS": str(folder / "models"), "REWARD_WINDOW_HOURS": "1", "SLATE_SIZE": "4"}
    environment = os.environ | {f"HEADGATE_{name}": value for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "ops", "retrain", "--once", "--model", "recommender", "--json"],
        env=environment | {"PYTHONPATH": str(CHECKOUT)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def move_into_yesterday(database: Database) -> None:
    """For the command, which has the clock of the machine and reads no more than some months back."""
    days = (utc_now() - END).days
    with database.begin() as connection:
        for table, columns in {"engagements": ("occurred_at",), "recommendations": ("occurred_at", "made_at")}.items():
            for column in columns:
                moved = f"strftime('%Y-%m-%d %H:%M:%f', {column}, '+{days} days') || '000'"
                connection.exec_driver_sql(f"UPDATE {table} SET {column} = {moved}")
        for table in ("engagements", "recommendations", "recommendation_items"):
            connection.exec_driver_sql(f"UPDATE {table} SET day = date(day, '+{days} days')")


@pytest.mark.slow
def test_the_command_makes_a_pass_of_the_recommender_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'headgate.sqlite'}"
    upgrade(url)
    database = open_database(url)
    store_shop(database, tmp_path / "models", rounds=7)
    refused = headgate_retrain(database, tmp_path)
    assert refused.returncode == 1
    assert "none of 0 slates is older than the reward window" in refused.stderr
    move_into_yesterday(database)
    found = headgate_retrain(database, tmp_path)
    assert found.returncode == 0, found.stderr
    said = json.loads(found.stdout.strip().splitlines()[-1])
    assert (said["champion"], said["challenger"]) == (None, "recommender:1")
    assert said["decision"] in ("refuse", "not enough evidence")
    loop = Loop(database, ModelRegistry(database, str(tmp_path / "models")))
    assert [run.message for run in loop.runs()][1:] == [f"{said['decision']}: {said['reason']}"]
    database.engine.dispose()
