"""Registered models: files beside their rows in `models`, checked by sha256 at every load.

Files go to a folder or an object store (fsspec). A file is complete before its row exists; a row never changes but
for its alias. No pickle: what the bytes mean is the models package's business.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, TypeVar
from uuid import uuid4

import fsspec
from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from storage.database import Database
from storage.tables import Model

CHAMPION = "champion"
ATTEMPTS = 20
Clock = Callable[[], datetime]
Changed = TypeVar("Changed")


class CorruptModel(Exception):
    """A model file is missing or is not the one that was registered."""


class UnknownModel(Exception):
    """No such version is registered."""


@dataclass(frozen=True, slots=True)
class ModelRecord:
    name: str
    version: int
    kind: str
    created_at: datetime
    artifact: str
    sha256: str
    size_bytes: int
    feature_schema: int
    metrics: Mapping[str, Any]
    alias: str | None
    promoted_at: datetime | None
    promoted_why: str | None


class ModelRegistry:
    """root: a folder or an fsspec URL."""

    def __init__(self, database: Database, root: str) -> None:
        self._database = database
        self._files, self._root = fsspec.core.url_to_fs(str(root))

    def register(
        self,
        name: str,
        kind: str,
        data: bytes,
        *,
        feature_schema: int,
        metrics: Mapping[str, Any],
        clock: Clock,
        alias: str | None = None,
        why: str | None = None,
    ) -> ModelRecord:
        """Stores the file, then its row under the next version number."""
        digest = sha256(data).hexdigest()
        artifact = f"{name}/{digest[:16]}-{uuid4().hex[:8]}.safetensors"
        self._write(artifact, data)

        def insert_next(connection: Connection) -> int:
            version = _next_version(connection, name)
            row = {
                "name": name,
                "version": version,
                "kind": kind,
                "created_at": clock(),
                "artifact": artifact,
                "sha256": digest,
                "size_bytes": len(data),
                "feature_schema": feature_schema,
                "metrics": dict(metrics),
            }
            connection.execute(insert(Model), row)
            if alias is not None:
                _set_alias(connection, name, version, alias, clock(), why)
            return version

        return self.get(name, self._until_no_conflict(insert_next))

    def champion(self, name: str) -> ModelRecord | None:
        return self._one(Model.name == name, Model.alias == CHAMPION)

    def get(self, name: str, version: int) -> ModelRecord:
        record = self._one(Model.name == name, Model.version == version)
        if record is None:
            raise UnknownModel(f"{name}:{version} is not registered; see `headgate models list`")
        return record

    def list(self) -> "list[ModelRecord]":
        """Newest first."""
        with self._database.reading() as connection:
            rows = connection.execute(_columns().order_by(Model.created_at.desc(), Model.version.desc()))
            return [ModelRecord(**row._mapping) for row in rows]

    def promote(self, name: str, version: int, why: str, clock: Clock) -> ModelRecord:
        """Makes a version the champion; the champion before it keeps its row without the alias."""
        self.get(name, version)
        self._until_no_conflict(lambda connection: _set_alias(connection, name, version, CHAMPION, clock(), why))
        return self.get(name, version)

    def rollback(self, name: str, why: str, clock: Clock) -> ModelRecord:
        """Makes the version that was champion before the present one the champion again. Raises UnknownModel."""
        champion = self.champion(name)
        before = [Model.name == name, Model.promoted_at.is_not(None), Model.alias.is_distinct_from(CHAMPION)]
        if champion is not None and champion.promoted_at is not None:
            before.append(Model.promoted_at <= champion.promoted_at)
        with self._database.reading() as connection:
            rows = connection.execute(_columns().where(*before).order_by(Model.promoted_at.desc()).limit(1))
            row = rows.one_or_none()
        if row is None:
            raise UnknownModel(f"no version of {name} was champion before; promote one with `headgate models promote`")
        return self.promote(name, row.version, why, clock)

    def load(self, record: ModelRecord) -> bytes:
        path = f"{self._root}/{record.artifact}"
        try:
            data: bytes = self._files.cat_file(path)
        except FileNotFoundError as error:
            raise CorruptModel(f"{path} is missing; HEADGATE_MODELS must be what it was at training") from error
        if sha256(data).hexdigest() != record.sha256:
            raise CorruptModel(f"{path} is not the file that was registered: its sha256 differs")
        return data

    def _until_no_conflict(self, change: Callable[[Connection], Changed]) -> Changed:
        """Again where another process took the same version number or alias in the meantime."""
        for attempt in range(ATTEMPTS):
            try:
                with self._database.begin() as connection:
                    return change(connection)
            except IntegrityError:
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def _write(self, artifact: str, data: bytes) -> None:
        path = f"{self._root}/{artifact}"
        self._files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        unfinished = f"{path}.unfinished"
        self._files.pipe_file(unfinished, data)
        self._files.mv(unfinished, path)

    def _one(self, *conditions: Any) -> ModelRecord | None:
        with self._database.reading() as connection:
            row = connection.execute(_columns().where(*conditions)).one_or_none()
        return None if row is None else ModelRecord(**row._mapping)


def _columns() -> Any:
    return select(*(getattr(Model, name) for name in ModelRecord.__dataclass_fields__))


def _next_version(connection: Connection, name: str) -> int:
    return int(connection.execute(select(func.max(Model.version)).where(Model.name == name)).scalar() or 0) + 1


def _set_alias(connection: Connection, name: str, version: int, alias: str, moment: datetime, why: str | None) -> None:
    connection.execute(update(Model).where(Model.name == name, Model.alias == alias).values(alias=None))
    values: dict[str, Any] = {"alias": alias}
    if alias == CHAMPION:
        values |= {"promoted_at": moment, "promoted_why": why}
    connection.execute(update(Model).where(Model.name == name, Model.version == version).values(**values))
