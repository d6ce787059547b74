"""Attacks on registered models by somebody who may write the table and the files of models, but has no key to sign
with: each is found out where signatures are asked for, and each goes through where nobody asks."""

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from models.artifact import TrainedDetector
from models.feature_schema import FEATURE_SCHEMA
from models.scoring import Scorer
from ops.compose import WorkerFailed, load_detector
from storage.database import Database, open_database
from storage.model_trust import (
    ModelTrust,
    key_id,
    new_signing_key,
    public_text,
    signed_bytes,
    signing_key_of,
    verify_keys_of,
)
from storage.registry import ModelRecord, ModelRegistry, UntrustedModel
from streams.health import FlowMetrics
from streams.swap import ChampionWatch
from tests.models.logs import busy_log, untrained

OWNERS, STRANGERS = signing_key_of(new_signing_key()), signing_key_of(new_signing_key())
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
#: What the attacker wants to be in use: it never alerts.
BLIND = untrained(threshold=1.0).to_bytes()


@dataclass
class Place:
    """A database and a folder of models that an attacker can write, and a registry that trusts one key."""

    database: Database
    folder: Path
    trust: ModelTrust

    def registry(self, trust: ModelTrust | None = None, metrics: FlowMetrics | None = None) -> ModelRegistry:
        told = (metrics or FlowMetrics()).model_untrusted
        return ModelRegistry(self.database, str(self.folder), trust or self.trust, told)

    def registered(self, model: bytes, hours: int, **more: Any) -> ModelRecord:
        values = {"feature_schema": FEATURE_SCHEMA, "metrics": {"alerts_per_day": 10.0}, "alias": "champion"} | more
        return self.registry().register(
            "fraud", "detector", model, clock=lambda: NOON + timedelta(hours=hours), **values
        )

    def write(self, statement: str, **values: Any) -> None:
        with self.database.begin() as connection:
            connection.execute(text(statement), values)


@pytest.fixture
def place(sqlite_url: str, tmp_path: Path) -> Place:
    """Two versions, signed; the second is champion."""
    made = Place(
        open_database(sqlite_url), tmp_path / "models", ModelTrust(OWNERS, verify_keys_of(public_text(OWNERS)))
    )
    made.registered(untrained().to_bytes(), 1)
    made.registered(untrained(hidden=12).to_bytes(), 2)
    return made


def put_file_and_row(place: Place) -> None:
    """Another file, and a row that says that it is the right one."""
    record = place.registry().get("fraud", 2)
    (place.folder / record.artifact).write_bytes(BLIND)
    values = {"digest": sha256(BLIND).hexdigest(), "size": len(BLIND)}
    place.write("UPDATE models SET sha256 = :digest, size_bytes = :size WHERE version = 2", **values)


def add_unsigned_version(place: Place) -> None:
    """A version of one's own, registered as any other, after those of the place."""
    registry, at = place.registry(ModelTrust()), NOON + timedelta(hours=2, minutes=30)
    registry.register(
        "fraud", "detector", BLIND, feature_schema=FEATURE_SCHEMA, metrics={}, clock=lambda: at, alias="champion"
    )


def take_signature_away(place: Place) -> None:
    put_file_and_row(place)
    place.write("UPDATE models SET signature = NULL, signing_key = NULL")


def sign_with_own_key(place: Place) -> None:
    put_file_and_row(place)
    signature = b64encode(STRANGERS.sign(signed_bytes(place.registry().get("fraud", 2)))).decode()
    own = key_id(STRANGERS.public_key())
    place.write(
        "UPDATE models SET signature = :signature, signing_key = :key WHERE version = 2", signature=signature, key=own
    )


def sign_with_own_key_under_the_owners_name(place: Place) -> None:
    sign_with_own_key(place)
    place.write("UPDATE models SET signing_key = :key", key=key_id(OWNERS.public_key()))


def swap_two_signed_versions(place: Place) -> None:
    """All that the rows say of what they are, and the signatures with it; only the numbers stay."""
    place.write("UPDATE models SET version = 99, alias = NULL WHERE version = 2")
    place.write("UPDATE models SET version = 2, alias = 'champion' WHERE version = 1")


def pass_a_detector_off_as_the_recommender(place: Place) -> None:
    place.write("UPDATE models SET name = 'recommender' WHERE version = 2")


def change_the_alert_budget(place: Place) -> None:
    """Of the row alone, which says how many alerts a day the model may raise."""
    place.write("""UPDATE models SET metrics = '{"alerts_per_day": 0.001}' WHERE version = 2""")


ATTACKS: list[Callable[[Place], None]] = [
    put_file_and_row,
    add_unsigned_version,
    take_signature_away,
    sign_with_own_key,
    sign_with_own_key_under_the_owners_name,
    swap_two_signed_versions,
    pass_a_detector_off_as_the_recommender,
    change_the_alert_budget,
]


def champion(place: Place, registry: ModelRegistry) -> ModelRecord:
    found = registry.champion("fraud") or registry.champion("recommender")
    assert found is not None
    return found


def test_a_signed_champion_is_loaded(place: Place) -> None:
    registry = place.registry()
    assert load_detector(registry, champion(place, registry)).network.config.hidden == 12


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_model_put_in_by_who_has_no_key_is_refused(place: Place, attack: Callable[[Place], None]) -> None:
    attack(place)
    metrics = FlowMetrics()
    registry = place.registry(metrics=metrics)
    record = champion(place, registry)
    with pytest.raises(UntrustedModel):
        registry.load(record)
    with pytest.raises(WorkerFailed, match=r"is refused: .*(is not signed|is not among|is not what key)"):
        load_detector(registry, record)
    assert metrics.registry.get_sample_value("headgate_untrusted_models_total", {"model": record.name}) == 2


@pytest.mark.parametrize("attack", ATTACKS)
def test_without_signatures_a_model_put_in_by_who_has_no_key_goes_through(
    place: Place, attack: Callable[[Place], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelTrust, "check", lambda self, row, signature: None)
    attack(place)
    registry = place.registry()
    load_detector(registry, champion(place, registry))


def test_a_running_worker_refuses_an_unsigned_champion_and_goes_on_with_the_one_it_has(place: Place) -> None:
    metrics, told = FlowMetrics(), list[str]()
    registry = place.registry(metrics=metrics)
    watch = ChampionWatch(registry, champion(place, registry), metrics, told.append, clock=lambda: NOON)
    scorer = Scorer(load_detector(registry, champion(place, registry)))
    scorer.score(busy_log())
    add_unsigned_version(place)
    for _ in range(3):
        watch.look()
        assert watch.take(scorer) is None
    assert scorer.model.network.config.hidden == 12
    assert len(told) == 1
    assert "fraud:3 is not signed" in told[0]
    assert metrics.registry.get_sample_value("headgate_untrusted_models_total", {"model": "fraud"}) == 1
    assert metrics.registry.get_sample_value("headgate_model_swaps_total", {"outcome": "refused"}) == 1


def test_an_unsigned_version_is_neither_promoted_nor_put_into_the_shadow(place: Place) -> None:
    place.registry(ModelTrust()).register(
        "fraud", "detector", BLIND, feature_schema=FEATURE_SCHEMA, metrics={}, clock=lambda: NOON
    )
    with pytest.raises(UntrustedModel, match="fraud:3 is not signed"):
        place.registry().promote("fraud", 3, "because", lambda: NOON)
    with pytest.raises(UntrustedModel, match="fraud:3 is not signed"):
        place.registry().start_shadow("fraud", 3, lambda: NOON)
    assert champion(place, place.registry()).version == 2


def test_going_back_to_an_older_signed_version_is_allowed(place: Place) -> None:
    """An alias is not signed: who may write it chooses among what the owner of the key has signed."""
    place.write("UPDATE models SET alias = NULL")
    place.write("UPDATE models SET alias = 'champion' WHERE version = 1")
    registry = place.registry()
    record = champion(place, registry)
    assert (record.version, TrainedDetector.from_bytes(registry.load(record)).network.config.hidden) == (1, 8)


def test_going_back_passes_over_what_is_not_signed(place: Place) -> None:
    """Else a rollback, by hand or by itself, would make a champion that no worker loads."""
    add_unsigned_version(place)
    place.registered(untrained(hidden=16).to_bytes(), 3)
    registry = place.registry()
    fourth = champion(place, registry)
    assert str(registry.before(fourth)) == "fraud:2"
    withdrawn = registry.withdraw(fourth, "its scores are no numbers", lambda: NOON + timedelta(hours=4))
    assert str(withdrawn) == "fraud:2"
    registry.promote("fraud", 1, "by hand", lambda: NOON + timedelta(hours=5))
    assert str(registry.rollback("fraud", "worse", lambda: NOON + timedelta(hours=6))) == "fraud:2"


def test_a_version_that_was_there_before_the_key_is_signed_only_while_its_file_is_the_registered_one(
    place: Place,
) -> None:
    add_unsigned_version(place)
    registry = place.registry()
    record = registry.get("fraud", 3)
    (place.folder / record.artifact).write_bytes(BLIND[:-1] + b"!")
    with pytest.raises(Exception, match="sha256 differs"):
        registry.sign(record)
    (place.folder / record.artifact).write_bytes(BLIND)
    assert registry.load(registry.sign(record)) == BLIND


def test_keys_are_exchanged_without_a_moment_in_which_models_are_refused(place: Place) -> None:
    old = public_text(OWNERS)
    both = verify_keys_of(f"{old},{public_text(STRANGERS)}")
    registry = place.registry(ModelTrust(STRANGERS, both))
    record = registry.get("fraud", 2)
    assert registry.load(record)
    signed = registry.sign(record)
    assert signed.signing_key == key_id(STRANGERS.public_key())
    assert place.registry(ModelTrust(None, both)).load(signed)
    assert place.registry(ModelTrust(None, verify_keys_of(public_text(STRANGERS)))).load(signed)
    with pytest.raises(UntrustedModel):
        place.registry(ModelTrust(None, verify_keys_of(old))).load(signed)
