"""Model files beside their rows: checked at every load, never visible by halves, one champion."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from sqlalchemy import text

from storage.database import Database
from storage.registry import CHAMPION, CorruptModel, ModelRecord, ModelRegistry, UnknownModel
from tests.storage.rows import NOON

DATA = b"weights" * 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def registry(database: Database, folder: Path) -> ModelRegistry:
    return ModelRegistry(database, str(folder))


def clock() -> datetime:
    return NOON


def register(registry: ModelRegistry, data: bytes = DATA, **values: Any) -> ModelRecord:
    settings: dict[str, Any] = {"feature_schema": 3, "metrics": {"ap": 0.75}, "clock": clock} | values
    return registry.register("detector", "gru", data, **settings)


def artifacts(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_registered_model_comes_back_as_it_was(registry: ModelRegistry, folder: Path) -> None:
    record = register(registry)
    assert record == registry.get("detector", 1)
    assert (record.version, record.kind, record.created_at, record.feature_schema) == (1, "gru", NOON, 3)
    assert (record.sha256, record.size_bytes) == (sha256(DATA).hexdigest(), len(DATA))
    assert (record.metrics, record.alias, record.promoted_at) == ({"ap": 0.75}, None, None)
    assert registry.load(record) == DATA
    assert artifacts(folder) == [folder / record.artifact]
    assert record.artifact.endswith(".safetensors")


def test_versions_count_up_for_each_name(registry: ModelRegistry) -> None:
    assert [register(registry).version for _ in range(3)] == [1, 2, 3]
    other = registry.register("policy", "gru", DATA, feature_schema=1, metrics={}, clock=clock)
    assert other.version == 1
    later = NOON + timedelta(hours=1)
    newest = registry.register("policy", "gru", DATA, feature_schema=1, metrics={}, clock=lambda: later)
    assert registry.list()[0] == newest
    assert len(registry.list()) == 5


def test_threads_that_register_at_once_get_different_versions(registry: ModelRegistry) -> None:
    with ThreadPoolExecutor(2) as threads:
        records = list(threads.map(lambda number: register(registry, bytes([number])), range(10)))
    assert sorted(record.version for record in records) == list(range(1, 11))
    assert [registry.load(record) for record in records] == [bytes([number]) for number in range(10)]


def change(path: Path) -> None:
    path.write_bytes(DATA[:-1] + b"!")


def cut_off(path: Path) -> None:
    path.write_bytes(DATA[:10])


@pytest.mark.parametrize(
    ("spoil", "why"), [(change, "sha256 differs"), (cut_off, "sha256 differs"), (os.remove, "is missing")]
)
def test_a_file_that_is_not_the_registered_one_is_refused(
    registry: ModelRegistry, folder: Path, spoil: Callable[[Path], None], why: str
) -> None:
    record = register(registry)
    spoil(folder / record.artifact)
    with pytest.raises(CorruptModel, match=why):
        registry.load(record)


def test_a_file_that_grew_is_not_read_further_than_what_was_registered(registry: ModelRegistry, folder: Path) -> None:
    record = register(registry)
    with (folder / record.artifact).open("ab") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    with pytest.raises(CorruptModel, match="it has more than 700 bytes"):
        registry.load(record)


def test_a_file_beyond_what_is_ever_read_is_not_registered(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.registry.MOST_BYTES", len(DATA) - 1)
    with pytest.raises(ValueError, match="a model of 700 bytes is larger than 699"):
        register(registry)
    assert registry.list() == []


def test_an_unknown_version_says_where_the_known_ones_are(registry: ModelRegistry) -> None:
    with pytest.raises(UnknownModel, match=r"detector:7 is not registered; see `headgate models list`"):
        registry.get("detector", 7)
    with pytest.raises(UnknownModel):
        registry.promote("detector", 7, "because", clock)
    assert registry.champion("detector") is None


def test_promoting_moves_the_alias_and_keeps_the_reason(registry: ModelRegistry) -> None:
    first = register(registry, alias=CHAMPION, why="the first")
    assert (first.alias, first.promoted_at, first.promoted_why) == (CHAMPION, NOON, "the first")
    second = register(registry)
    assert registry.champion("detector") == first
    later = NOON + timedelta(hours=1)
    promoted = registry.promote("detector", 2, "finds more", lambda: later)
    assert promoted == replace(second, alias=CHAMPION, promoted_at=later, promoted_why="finds more")
    assert registry.champion("detector") == promoted
    assert registry.get("detector", 1) == replace(first, alias=None)


def test_a_rollback_makes_the_champion_before_the_champion_again(registry: ModelRegistry) -> None:
    register(registry, alias=CHAMPION)
    register(registry, alias="challenger")
    register(registry)
    registry.promote("detector", 3, "finds more", lambda: NOON + timedelta(hours=1))
    back = registry.rollback("detector", "finds less", lambda: NOON + timedelta(hours=2))
    assert (back.version, back.alias, back.promoted_why) == (1, CHAMPION, "finds less")
    assert registry.champion("detector") == back


def test_without_a_champion_before_there_is_nothing_to_roll_back_to(registry: ModelRegistry) -> None:
    register(registry, alias=CHAMPION)
    register(registry)
    with pytest.raises(UnknownModel, match="no version of detector was champion before"):
        registry.rollback("detector", "why", clock)
    assert registry.champion("detector") == registry.get("detector", 1)


def test_promoting_the_champion_again_and_back_keeps_one_champion(registry: ModelRegistry) -> None:
    register(registry, alias=CHAMPION)
    register(registry, alias="challenger")
    for version in (1, 2, 1, 1):
        registry.promote("detector", version, "rollback", clock)
        assert [record.version for record in registry.list() if record.alias == CHAMPION] == [version]


def test_threads_that_promote_at_once_leave_one_champion(registry: ModelRegistry) -> None:
    versions = [register(registry).version for _ in range(6)]
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda version: registry.promote("detector", version, "race", clock), versions * 2))
    assert len([record for record in registry.list() if record.alias == CHAMPION]) == 1


@pytest.mark.parametrize("breaks_at", ["pipe_file", "mv"])
def test_a_file_that_was_not_finished_is_never_registered(
    registry: ModelRegistry, folder: Path, monkeypatch: pytest.MonkeyPatch, breaks_at: str
) -> None:
    def disk_full(_files: LocalFileSystem, path: str, *_: object, **__: object) -> None:
        Path(path).write_bytes(DATA[:10])
        raise OSError("No space left on device")

    monkeypatch.setattr(LocalFileSystem, breaks_at, disk_full)
    with pytest.raises(OSError, match="No space left"):
        register(registry)
    assert registry.list() == []
    assert [path for path in artifacts(folder) if path.suffix == ".safetensors"] == []


def test_a_row_that_cannot_be_written_leaves_no_version(registry: ModelRegistry, database: Database) -> None:
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE models RENAME TO moved"))
    with pytest.raises(Exception, match="models"):
        register(registry)
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE moved RENAME TO models"))
    assert registry.list() == []
    assert register(registry).version == 1


def test_an_object_store_url_works_as_well_as_a_folder(database: Database) -> None:
    registry = ModelRegistry(database, "memory://models-of-this-test")
    assert registry.load(register(registry)) == DATA
