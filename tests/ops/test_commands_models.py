"""`headgate models`: what a person sees and what becomes of the registry."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from models.sequences import TrainingRefused
from ops.cli import cli
from ops.jobs.model_keys import KeyFileRefused
from storage.database import open_database
from storage.model_trust import CannotSign, key_id, new_signing_key, public_text, signing_key_of
from storage.registry import ModelInUse, ModelRegistry, UnknownModel, UntrustedModel

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.fixture
def registry(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelRegistry:
    """Three versions; the second is champion, the first was."""
    folder = str(tmp_path / "models")
    monkeypatch.setenv("HEADGATE_DATABASE", sqlite_url)
    monkeypatch.setenv("HEADGATE_MODELS", folder)
    registry = ModelRegistry(open_database(sqlite_url), folder)
    for version in range(1, 4):
        at = NOON + timedelta(hours=version)
        registry.register("fraud", "detector", b"weights", feature_schema=1, metrics={}, clock=lambda at=at: at)
        if version < 3:
            registry.promote("fraud", version, "finds more", lambda at=at: at)
    return registry


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, ["models", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def aliases(registry: ModelRegistry) -> dict[int, str | None]:
    return {record.version: record.alias for record in registry.list()}


def test_a_version_goes_into_the_shadow_and_out_of_it(registry: ModelRegistry) -> None:
    assert run("shadow", "fraud:3").output == "fraud:3 scores in the shadow of the champion\n"
    assert aliases(registry) == {1: None, 2: "champion", 3: "shadow"}
    assert run("shadow", "--off").output == "fraud:3 is no shadow any more\n"
    assert run("shadow", "--off", "fraud:3").output == "no version of fraud was in the shadow\n"
    assert aliases(registry) == {1: None, 2: "champion", 3: None}


def test_a_version_is_shown_with_its_intervals_in_words_and_without_its_points(registry: ModelRegistry) -> None:
    point = {"recall": 1.0, "precision": 0.015625, "threshold": 0.0078125}
    curves = {"precision_recall": [point], "calibration": [], "source": "training", "events": 640, "frauds": 10}
    figures = {"average_precision": 0.81234, "auc": 0.95, "trained_until": "2026-11-26T12:00:00+00:00"}
    metrics = {**figures, "curves": curves, "intervals": {"average_precision": [0.7, 0.9]}}
    registry.register("fraud", "detector", b"", feature_schema=1, metrics=metrics, clock=lambda: NOON)
    lines = [line.split(maxsplit=1) for line in run("show", "fraud:4").output.splitlines()]
    shown = {words[0]: words[-1] for words in lines}
    assert shown["average_precision"] == "0.8123, 95 % interval 0.700 to 0.900"
    assert (shown["auc"], shown["trained_until"]) == ("0.95", "2026-11-26T12:00:00+00:00")
    assert shown["curves"].startswith("precision against recall (--json has them), of 640 events")
    assert "{" not in run("show", "fraud:4").output
    assert json.loads(run("show", "fraud:4", "--json").output)["metrics"] == metrics
    assert "curves" not in run("show", "fraud:1").output


def test_the_card_of_a_version_is_shown_in_words_and_kept_whole_in_json(registry: ModelRegistry) -> None:
    part = {"kind": "amount", "name": "10 to below 100", "events": 6400, "frauds": 32, "accounts": 90, "flagged": 20}
    measured = {
        "measures": {"average_precision": 0.5, "recall": 0.25},
        "intervals": {"average_precision": [0.4, 0.625]},
    }
    few = part | {"name": "0 to below 10", "frauds": 2, "measures": {}, "intervals": {}}
    card = {
        "kind": "detector",
        "data": {"from": "2026-11-01T00:00:00+00:00", "events": 12_800, "matured_until": None, "horizon_days": 7.0},
        "quality": [part | measured, few],
        "calibration": {"expected_error": 0.001, "bins": [{"mean_score": 0.25, "fraud_share": 0.5, "events": 1280}]},
        "limits": ["Not tested: the future."],
        "settings": {"hidden": 64, "events_per_day": None},
        "code": "0.1.0",
    }
    registry.register("fraud", "detector", b"", feature_schema=1, metrics={"card": card}, clock=lambda: NOON)
    shown = run("show", "fraud:4").output.split("\ncard\n")[1].splitlines()
    assert [line.strip() for line in shown] == [
        "detector, made by Headgate 0.1.0",
        "data",
        "from                 2026-11-01T00:00:00+00:00",
        "events               12,800",
        "matured until        -",
        "horizon days         7",
        "quality (95 % interval)",
        "amount 10 to below 100  6,400 events, 32 frauds; average precision 0.500 (0.400 to 0.625), recall 0.250",
        "amount 0 to below 10    6,400 events, 2 frauds; too few to measure",
        "calibration",
        "expected error 0.001",
        "said 25.00%, 50.00% were frauds of 1,280 events",
        "limits",
        "- Not tested: the future.",
        "settings",
        "hidden 64, events per day -",
    ]
    assert json.loads(run("show", "fraud:4", "--json").output)["metrics"]["card"] == card
    assert "card" not in run("show", "fraud:1").output


def test_what_cannot_be_a_shadow_is_refused_with_its_reason(registry: ModelRegistry) -> None:
    with pytest.raises(ModelInUse, match="fraud:2 is the champion"):
        run("shadow", "fraud:2")
    with pytest.raises(UnknownModel, match="fraud:9 is not registered"):
        run("shadow", "fraud:9")
    for arguments in ((), ("fraud",)):
        assert run("shadow", *arguments).exit_code == 1
    assert aliases(registry) == {1: None, 2: "champion", 3: None}


def test_a_version_that_was_withdrawn_is_shown_as_such_and_passed_over_until_it_is_promoted(
    registry: ModelRegistry,
) -> None:
    registry.withdraw(registry.get("fraud", 2), "its scores are no numbers", lambda: NOON + timedelta(hours=4))
    (line,) = [line for line in run("list").output.splitlines() if line.startswith("fraud:2")]
    assert "withdrawn" in line
    shown = json.loads(run("show", "fraud:2", "--json").output)
    assert (shown["withdrawn_why"], shown["alias"]) == ("its scores are no numbers", None)
    with pytest.raises(UnknownModel, match="was champion before"):
        run("rollback")
    assert run("promote", "fraud:2", "--why", "I know better").output == "fraud:2 is the champion\n"
    assert "withdrawn" not in run("list").output


def test_a_champion_that_cannot_be_read_is_not_compressed_and_an_unknown_method_is_refused(
    registry: ModelRegistry,
) -> None:
    with pytest.raises(TrainingRefused, match="the champion fraud:2 cannot be compared with"):
        run("compress", "--method", "prune", "--hidden", "8")
    assert run("compress", "--method", "zip").exit_code == 2
    assert len(registry.list()) == 3


def test_a_pair_of_keys_is_made_once_and_only_its_owner_may_read_the_private_one(tmp_path: Path) -> None:
    file = tmp_path / "signing.key"
    shown = run("keys", str(file)).output
    private = file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    assert private not in shown
    key = signing_key_of(private)
    assert f"HEADGATE_MODEL_VERIFY_KEYS={public_text(key)}\n" in shown
    assert key_id(key.public_key()) in shown
    with pytest.raises(KeyFileRefused, match="File exists; name a new file"):
        run("keys", str(file))
    assert file.read_text().strip() == private


def test_a_version_is_signed_by_command_and_from_then_on_promoted_where_signatures_are_asked_for(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = new_signing_key()
    key = signing_key_of(private)
    assert run("sign", "fraud:3").exit_code == 1
    monkeypatch.setenv("HEADGATE_MODEL_VERIFY_KEYS", public_text(key))
    with pytest.raises(UntrustedModel, match="fraud:3 is not signed"):
        run("promote", "fraud:3")
    monkeypatch.setenv("HEADGATE_MODEL_SIGNING_KEY", private)
    named = key_id(key.public_key())
    assert run("sign", "fraud:3").output == f"fraud:3 is signed with key {named}\n"
    assert json.loads(run("show", "fraud:3", "--json").output)["signing_key"] == named
    monkeypatch.delenv("HEADGATE_MODEL_SIGNING_KEY")
    assert run("promote", "fraud:3").output == "fraud:3 is the champion\n"


def test_who_asks_for_signatures_and_cannot_sign_is_told_before_anything_is_trained(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_MODEL_VERIFY_KEYS", public_text(signing_key_of(new_signing_key())))
    for command in (["train"], ["retrain", "--once"], ["models", "compress"]):
        result = CliRunner().invoke(cli, command)
        assert isinstance(result.exception, CannotSign), command
    assert len(registry.list()) == 3
