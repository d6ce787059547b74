"""Who is champion, who its shadow, who was withdrawn: one change at a time, each change of the champion noted."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from storage.audit import audit_entries
from storage.database import Database
from storage.registry import CHAMPION, SHADOW, ModelInUse, ModelRegistry
from tests.storage.rows import NOON
from tests.storage.test_registry import register


@pytest.fixture
def registry(database: Database, tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(database, str(tmp_path / "models"))


def at(hours: int) -> Callable[[], datetime]:
    return lambda: NOON + timedelta(hours=hours)


def champions_in_turn(registry: ModelRegistry, count: int) -> None:
    for version in range(1, count + 1):
        register(registry)
        registry.promote("detector", version, "finds more", at(version))


def updates(database: Database) -> list[tuple[int, str, int, str | None]]:
    with database.reading() as connection:
        return [
            tuple(row)
            for row in connection.execute(text("SELECT sequence, name, version, why FROM model_updates ORDER BY 1"))
        ]


def test_a_champion_that_is_withdrawn_makes_room_for_the_one_before_it_and_says_why(registry: ModelRegistry) -> None:
    champions_in_turn(registry, 2)
    bad = registry.get("detector", 2)
    back = registry.withdraw(bad, "its scores are no numbers", at(5))
    assert back is not None
    assert (back.version, back.alias, back.promoted_at) == (1, CHAMPION, NOON + timedelta(hours=5))
    assert back.promoted_why == "automatic rollback from detector:2: its scores are no numbers"
    gone = registry.get("detector", 2)
    assert (gone.alias, gone.withdrawn_at, gone.withdrawn_why) == (
        None,
        NOON + timedelta(hours=5),
        "its scores are no numbers",
    )
    assert gone.withdrawn
    assert not back.withdrawn
    assert registry.withdraw(bad, "seen by a slower worker", at(6)) is None
    assert registry.get("detector", 2) == gone


def test_of_several_workers_that_withdraw_a_champion_one_does(registry: ModelRegistry) -> None:
    champions_in_turn(registry, 3)
    bad = registry.get("detector", 3)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: registry.withdraw(bad, "worse", at(5)), range(8)))
    assert [record.version for record in found if record is not None] == [2]
    champion = registry.champion("detector")
    assert champion is not None
    assert champion.version == 2


def test_what_was_promoted_again_since_is_not_withdrawn_for_what_it_did_before(registry: ModelRegistry) -> None:
    champions_in_turn(registry, 2)
    before = registry.get("detector", 2)
    again = registry.promote("detector", 2, "I know better", at(6))
    assert registry.withdraw(before, "worse", at(7)) is None
    assert registry.champion("detector") == again


def test_the_only_champion_there_ever_was_is_not_withdrawn(registry: ModelRegistry) -> None:
    champions_in_turn(registry, 1)
    only = registry.get("detector", 1)
    register(registry, alias="challenger")
    assert registry.before(only) is None
    assert registry.withdraw(only, "worse", at(5)) is None
    assert registry.champion("detector") == only


def test_a_version_that_is_no_champion_any_more_is_withdrawn_without_a_change_of_the_champion(
    registry: ModelRegistry, database: Database
) -> None:
    champions_in_turn(registry, 3)
    assert registry.withdraw(registry.get("detector", 2), "worse", at(5)) is None
    assert registry.get("detector", 2).withdrawn
    assert len(updates(database)) == 3
    back = registry.withdraw(registry.get("detector", 3), "worse", at(6))
    assert back is not None
    assert back.version == 1


def test_a_rollback_passes_over_what_was_withdrawn_until_someone_promotes_it(registry: ModelRegistry) -> None:
    champions_in_turn(registry, 3)
    registry.withdraw(registry.get("detector", 3), "worse", at(5))
    assert registry.rollback("detector", "by hand", at(6)).version == 1
    assert not registry.get("detector", 3).insisted_on
    insisted = registry.promote("detector", 3, "I know better", at(7))
    assert (insisted.withdrawn, insisted.insisted_on) == (False, True)
    registry.promote("detector", 1, "no", at(8))
    assert registry.rollback("detector", "by hand", at(9)).version == 3


def test_every_change_of_the_champion_is_an_update_in_order_and_nothing_else_is(
    registry: ModelRegistry, database: Database
) -> None:
    register(registry, alias=CHAMPION, why="the first")
    register(registry, alias="challenger")
    registry.promote("detector", 2, "finds more", at(1))
    registry.start_shadow("detector", 1, at(4))
    registry.withdraw(registry.get("detector", 2), "worse", at(2))
    registry.withdraw(registry.get("detector", 2), "worse", at(3))
    assert updates(database) == [
        (1, "detector", 1, "the first"),
        (2, "detector", 2, "finds more"),
        (3, "detector", 1, "automatic rollback from detector:2: worse"),
    ]


def test_one_version_at_most_is_in_the_shadow_of_the_champion(registry: ModelRegistry) -> None:
    champions_in_turn(registry, 1)
    register(registry, alias="challenger")
    register(registry)
    assert registry.shadow("detector") is None
    assert registry.start_shadow("detector", 2, at(4)).alias == SHADOW
    assert registry.start_shadow("detector", 3, at(4)) == registry.shadow("detector")
    assert registry.get("detector", 2).alias is None
    with pytest.raises(ModelInUse, match="detector:1 is the champion"):
        registry.start_shadow("detector", 1, at(4))
    ended = registry.end_shadow("detector", at(5))
    assert ended is not None
    assert ended.version == 3
    assert (registry.shadow("detector"), registry.end_shadow("detector", at(5))) == (None, None)


def test_a_shadow_that_is_promoted_is_no_shadow_any_more(registry: ModelRegistry) -> None:
    champions_in_turn(registry, 1)
    register(registry)
    registry.start_shadow("detector", 2, at(4))
    registry.promote("detector", 2, "finds more", at(5))
    assert registry.shadow("detector") is None


def test_a_shadow_is_withdrawn_once_with_its_reason(registry: ModelRegistry) -> None:
    champions_in_turn(registry, 1)
    register(registry)
    shadow = registry.start_shadow("detector", 2, at(4))
    assert registry.withdraw_shadow(shadow, "no numbers", at(5))
    assert not registry.withdraw_shadow(shadow, "no numbers", at(6))
    assert (registry.shadow("detector"), registry.get("detector", 2).withdrawn_why) == (None, "no numbers")
    assert registry.withdraw_shadow(registry.start_shadow("detector", 2, at(4)), "none again", at(7))
    assert (registry.shadow("detector"), registry.get("detector", 2).withdrawn_why) == (None, "none again")
    champion = registry.champion("detector")
    assert champion is not None
    assert champion.version == 1


def test_each_change_of_an_alias_is_in_the_audit_log_with_who_made_it(
    registry: ModelRegistry, database: Database
) -> None:
    register(registry, alias=CHAMPION, why="the first")
    register(registry, alias="challenger")
    anna = registry.by("cli:anna")
    anna.promote("detector", 2, "finds more", at(1))
    anna.rollback("detector", "worse", at(2))
    anna.promote("detector", 2, "after all", at(3))
    registry.withdraw(registry.get("detector", 2), "no numbers", at(4))
    registry.withdraw_shadow(registry.start_shadow("detector", 2, at(5)), "slow", at(6))
    with database.reading() as connection:
        found = [entry for _, entry in audit_entries(connection, limit=99)]
    assert [(entry.who, entry.action, entry.subject, entry.detail["why"]) for entry in reversed(found)] == [
        ("service", "model.promote", "model:detector:1", "the first"),
        ("service", "model.challenger", "model:detector:2", None),
        ("cli:anna", "model.promote", "model:detector:2", "finds more"),
        ("cli:anna", "model.rollback", "model:detector:1", "worse"),
        ("cli:anna", "model.promote", "model:detector:2", "after all"),
        ("service", "model.withdraw", "model:detector:2", "no numbers"),
        ("service", "model.rollback", "model:detector:1", "automatic rollback from detector:2: no numbers"),
        ("service", "model.shadow", "model:detector:2", None),
        ("service", "model.withdraw", "model:detector:2", "slow"),
    ]


def test_a_change_that_cannot_be_written_down_is_not_made(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    champions_in_turn(registry, 2)

    def fail(*_: object) -> None:
        raise ArithmeticError

    monkeypatch.setattr("storage.registry.record_audit", fail)
    with pytest.raises(ArithmeticError):
        registry.rollback("detector", "by hand", at(5))
    champion = registry.champion("detector")
    assert champion is not None
    assert champion.version == 2
