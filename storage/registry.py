"""Registered models: files beside their rows in `models`, checked at every load: signature, size and sha256.

Files go to a folder or an object store (fsspec). A file is complete before its row exists; of a row only the alias
changes, and what is kept with it. Whoever becomes champion is written to `model_updates` in the same transaction, for
the relay to publish, and whoever changes an alias to the audit log. No pickle: what the bytes mean is the models
package's business.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, TypeVar
from uuid import uuid4

import fsspec
from sqlalchemy import Connection, and_, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from storage.audit import AuditEntry, record_audit
from storage.database import Database
from storage.model_trust import ModelTrust, NotTrusted, Signature
from storage.tables import Model, ModelUpdate, TrainingRun

CHAMPION, SHADOW = "champion", "shadow"
#: Who changes what nobody asked for: Headgate itself.
SERVICE = "service"
ATTEMPTS = 20
#: Key of PostgreSQL's advisory lock.
REGISTRY_LOCK = 4_815_162_344
#: Of a model's file; the largest that can be trained takes some hundred megabytes.
MOST_BYTES = 1 << 30
#: Nothing is signed, and no signature is asked for.
ANYONE = ModelTrust()
Clock = Callable[[], datetime]
Changed = TypeVar("Changed")


class CorruptModel(Exception):
    """A model file is missing or is not the one that was registered."""


class UntrustedModel(CorruptModel):
    """A version that is not signed by a key that is trusted here; whatever it says of itself is not believed."""


class UnknownModel(Exception):
    """No such version is registered."""


class ModelInUse(Exception):
    """The champion cannot be its own shadow."""


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """A row of `models`."""

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
    withdrawn_at: datetime | None
    withdrawn_why: str | None
    signature: str | None
    signing_key: str | None

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"

    @property
    def withdrawn(self) -> bool:
        """Taken out of use by the service itself, and not promoted since."""
        if self.withdrawn_at is None:
            return False
        return self.promoted_at is None or self.promoted_at <= self.withdrawn_at

    @property
    def insisted_on(self) -> bool:
        """Promoted although the service had withdrawn it before."""
        return self.withdrawn_at is not None and not self.withdrawn


@dataclass(frozen=True, slots=True)
class _NewRow:
    """What is kept of a version for ever, and signed."""

    name: str
    version: int
    kind: str
    created_at: datetime
    artifact: str
    sha256: str
    size_bytes: int
    feature_schema: int
    metrics: Mapping[str, Any]


class ModelRegistry:
    """root: a folder or an fsspec URL. trust: who signs and whose signatures are asked for; on_untrusted: told the name
    of each model that was refused for want of one."""

    def __init__(
        self,
        database: Database,
        root: str,
        trust: ModelTrust = ANYONE,
        on_untrusted: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._database = database
        self.root = str(root)
        self.trust = trust
        self._on_untrusted = on_untrusted
        self._who = SERVICE
        self._files, self._root = fsspec.core.url_to_fs(self.root)

    def by(self, who: str) -> "ModelRegistry":
        """The same in the hands of somebody: who changes aliases, for the audit log."""
        other = copy(self)
        other._who = who
        return other

    def register(
        self,
        name: str,
        kind: str,
        data: bytes,
        *,
        feature_schema: int,
        metrics: Mapping[str, Any],
        clock: Clock,
        run_id: str | None = None,
        alias: str | None = None,
        why: str | None = None,
    ) -> ModelRecord:
        """Stores the file, then its row under the next version number. run_id: the row of `training_runs` that made it,
        which names the version from the same transaction on, however the run ends. Raises CannotSign."""
        self.trust.refuse_unsigned_registration()
        if len(data) > MOST_BYTES:
            raise ValueError(f"a model of {len(data):,} bytes is larger than {MOST_BYTES:,}, which none may be")
        digest = sha256(data).hexdigest()
        artifact = f"{name}/{digest[:16]}-{uuid4().hex[:8]}.safetensors"
        self._write(artifact, data)

        def insert_next(connection: Connection) -> int:
            version = _next_version(connection, name)
            row = _NewRow(name, version, kind, clock(), artifact, digest, len(data), feature_schema, dict(metrics))
            values = {field: getattr(row, field) for field in _NewRow.__dataclass_fields__}
            connection.execute(insert(Model), values | _signed(self.trust.sign(row)))
            if run_id is not None:
                made_by = update(TrainingRun).where(TrainingRun.run_id == run_id)
                connection.execute(made_by.values(model_version=version))
            if alias is not None:
                moment = clock()
                _set_alias(connection, name, version, alias, moment, why)
                action = "model.promote" if alias == CHAMPION else f"model.{alias}"
                self._record(connection, action, f"{name}:{version}", moment, why)
            return version

        return self.get(name, self._change(insert_next))

    def champion(self, name: str) -> ModelRecord | None:
        return self._one(Model.name == name, Model.alias == CHAMPION)

    def shadow(self, name: str) -> ModelRecord | None:
        """The version that scores beside the champion."""
        return self._one(Model.name == name, Model.alias == SHADOW)

    def before(self, champion: ModelRecord) -> ModelRecord | None:
        """The version that was champion before this one, past those that were withdrawn or are not trusted."""
        with self._database.reading() as connection:
            return self._before(connection, champion.name, champion)

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

    def promotions(self, name: str) -> Sequence[tuple[datetime, ModelRecord]]:
        """Which versions became champion when, the first one first."""
        statement = select(ModelUpdate.version, ModelUpdate.promoted_at).where(ModelUpdate.name == name)
        with self._database.reading() as connection:
            updates = connection.execute(statement.order_by(ModelUpdate.sequence)).all()
            rows = connection.execute(_columns().where(Model.name == name))
            records = {row.version: ModelRecord(**row._mapping) for row in rows}
        return [(row.promoted_at, records[row.version]) for row in updates]

    def promote(self, name: str, version: int, why: str, clock: Clock) -> ModelRecord:
        """Makes a version the champion; the champion before it keeps its row without the alias. Raises UnknownModel,
        UntrustedModel."""
        return self._make_champion("model.promote", name, version, why, clock)

    def rollback(self, name: str, why: str, clock: Clock) -> ModelRecord:
        """Makes the version that was champion before the present one the champion again. Raises UnknownModel."""
        champion = self.champion(name)
        with self._database.reading() as connection:
            before = self._before(connection, name, champion)
        if before is None:
            raise UnknownModel(f"no version of {name} was champion before; promote one with `headgate models promote`")
        return self._make_champion("model.rollback", name, before.version, why, clock)

    def withdraw(self, record: ModelRecord, why: str, clock: Clock) -> ModelRecord | None:
        """Takes a version that misbehaves out of use. The record of the champion in its place, where this call made it
        the champion; None where the version was withdrawn already, promoted anew since the record was read, no longer
        the champion, or champion with none before it to take its place, which alone leaves it in use."""

        def change(connection: Connection) -> int | None:
            is_champion = connection.execute(_columns().where(*_is(record), Model.alias == CHAMPION)).first()
            before = self._before(connection, record.name, record)
            if is_champion and not before:
                return None
            moment = clock()
            if not _take_out(connection, record, moment, why, _in_good_standing()):
                return None
            self._record(connection, "model.withdraw", str(record), moment, why)
            if not (is_champion and before):
                return None
            reason = f"automatic rollback from {record}: {why}"
            _set_alias(connection, record.name, before.version, CHAMPION, moment, reason)
            self._record(connection, "model.rollback", f"{record.name}:{before.version}", moment, reason)
            return before.version

        version = self._change(change)
        return None if version is None else self.get(record.name, version)

    def start_shadow(self, name: str, version: int, clock: Clock) -> ModelRecord:
        """Has a version score beside the champion, in place of another that did. Raises UnknownModel, ModelInUse,
        UntrustedModel."""
        record = self.get(name, version)
        if record.alias == CHAMPION:
            raise ModelInUse(f"{name}:{version} is the champion; it cannot be its own shadow")
        self.refuse_untrusted(record)

        def change(connection: Connection) -> None:
            _set_alias(connection, name, version, SHADOW, None, None)
            self._record(connection, "model.shadow", f"{name}:{version}", clock(), None)

        self._change(change)
        return self.get(name, version)

    def end_shadow(self, name: str, clock: Clock) -> ModelRecord | None:
        """Which version it was."""
        shadow = self.shadow(name)
        if shadow is None:
            return None
        off = update(Model).where(*_is(shadow), Model.alias == SHADOW).values(alias=None)

        def change(connection: Connection) -> None:
            connection.execute(off)
            self._record(connection, "model.end_shadow", str(shadow), clock(), None)

        self._change(change)
        return shadow

    def withdraw_shadow(self, shadow: ModelRecord, why: str, clock: Clock) -> bool:
        """Ends a shadow that misbehaves; false where it was none any more."""

        def change(connection: Connection) -> bool:
            moment = clock()
            taken_out = _take_out(connection, shadow, moment, why, Model.alias == SHADOW)
            if taken_out:
                self._record(connection, "model.withdraw", str(shadow), moment, why)
            return taken_out

        return self._change(change)

    def sign(self, record: ModelRecord) -> ModelRecord:
        """Signs a version that is registered already, whose file is the one of its row. Raises CorruptModel,
        CannotSign."""
        self.trust.refuse_unsigned_registration()
        self._bytes_of(record)
        signed = _signed(self.trust.sign(record))
        self._change(lambda connection: connection.execute(update(Model).where(*_is(record)).values(**signed)))
        return self.get(record.name, record.version)

    def refuse_untrusted(self, record: ModelRecord) -> None:
        """Raises UntrustedModel where signatures are asked for and this version has none that is good."""
        try:
            self.trust.check(record, _signature_of(record))
        except NotTrusted as refusal:
            self._on_untrusted(record.name)
            raise UntrustedModel(str(refusal)) from refusal

    def load(self, record: ModelRecord) -> bytes:
        """The bytes that were registered. Raises CorruptModel, UntrustedModel."""
        self.refuse_untrusted(record)
        return self._bytes_of(record)

    def _bytes_of(self, record: ModelRecord) -> bytes:
        path = f"{self._root}/{record.artifact}"
        most = min(record.size_bytes, MOST_BYTES)
        try:
            with self._files.open(path, "rb") as file:
                data = bytes(file.read(most + 1))
        except FileNotFoundError as error:
            raise CorruptModel(f"{path} is missing; HEADGATE_MODELS must be what it was at training") from error
        if len(data) > most:
            raise CorruptModel(f"{path} is not the file that was registered: it has more than {most:,} bytes")
        if sha256(data).hexdigest() != record.sha256:
            raise CorruptModel(f"{path} is not the file that was registered: its sha256 differs")
        return data

    def _make_champion(self, action: str, name: str, version: int, why: str, clock: Clock) -> ModelRecord:
        self.refuse_untrusted(self.get(name, version))

        def change(connection: Connection) -> None:
            moment = clock()
            _set_alias(connection, name, version, CHAMPION, moment, why)
            self._record(connection, action, f"{name}:{version}", moment, why)

        self._change(change)
        return self.get(name, version)

    def _record(self, connection: Connection, action: str, model: str, moment: datetime, why: str | None) -> None:
        record_audit(connection, AuditEntry(self._who, action, f"model:{model}", {"why": why}, moment))

    def _change(self, change: Callable[[Connection], Changed]) -> Changed:
        """One at a time, so that versions and sequences have no gaps; again where another process took the same
        number all the same."""
        for attempt in range(ATTEMPTS):
            try:
                with self._database.begin() as connection:
                    if connection.dialect.name == "postgresql":
                        connection.execute(select(func.pg_advisory_xact_lock(REGISTRY_LOCK)))
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

    def _before(self, connection: Connection, name: str, champion: ModelRecord | None) -> ModelRecord | None:
        """The newest that was champion before this one and may be again."""
        newest_first = (Model.promoted_at.desc(), Model.version.desc())
        rows = connection.execute(_columns().where(*_was_champion(name, champion)).order_by(*newest_first)).all()
        for row in rows:
            record = ModelRecord(**row._mapping)
            try:
                self.trust.check(record, _signature_of(record))
            except NotTrusted:
                continue
            return record
        return None


def _signature_of(record: ModelRecord) -> Signature | None:
    if record.signature is None or record.signing_key is None:
        return None
    return Signature(record.signature, record.signing_key)


def _signed(signature: Signature | None) -> dict[str, str | None]:
    if signature is None:
        return {"signature": None, "signing_key": None}
    return {"signature": signature.value, "signing_key": signature.key}


def _columns() -> Any:
    return select(*(getattr(Model, name) for name in ModelRecord.__dataclass_fields__))


def _was_champion(name: str, champion: ModelRecord | None) -> tuple[Any, ...]:
    """Conditions on versions that were champion before this one and were not withdrawn."""
    conditions = (Model.name == name, Model.promoted_at.is_not(None), _in_good_standing())
    if champion is None or champion.promoted_at is None:
        return conditions
    at_the_same_moment = and_(Model.promoted_at == champion.promoted_at, Model.version < champion.version)
    return (*conditions, or_(Model.promoted_at < champion.promoted_at, at_the_same_moment))


def _in_good_standing() -> Any:
    return or_(Model.withdrawn_at.is_(None), Model.promoted_at > Model.withdrawn_at)


def _is(record: ModelRecord) -> tuple[Any, ...]:
    return Model.name == record.name, Model.version == record.version


def _next_version(connection: Connection, name: str) -> int:
    return int(connection.execute(select(func.max(Model.version)).where(Model.name == name)).scalar() or 0) + 1


def _take_out(connection: Connection, record: ModelRecord, moment: datetime, why: str, *conditions: Any) -> bool:
    """False where a condition does not hold, or the version was promoted again since the record was read."""
    same = Model.promoted_at.is_not_distinct_from(record.promoted_at)
    statement = update(Model).where(*_is(record), same, *conditions)
    return bool(connection.execute(statement.values(alias=None, withdrawn_at=moment, withdrawn_why=why)).rowcount)


def _set_alias(
    connection: Connection, name: str, version: int, alias: str, moment: datetime | None, why: str | None
) -> None:
    """moment: of a promotion to champion."""
    connection.execute(update(Model).where(Model.name == name, Model.alias == alias).values(alias=None))
    values: dict[str, Any] = {"alias": alias}
    if alias == CHAMPION:
        values |= {"promoted_at": moment, "promoted_why": why}
        _note_promotion(connection, name, version, moment, why)
    connection.execute(update(Model).where(Model.name == name, Model.version == version).values(**values))


def _note_promotion(connection: Connection, name: str, version: int, moment: datetime | None, why: str | None) -> None:
    sequence = int(connection.execute(select(func.max(ModelUpdate.sequence))).scalar() or 0) + 1
    row = {"sequence": sequence, "name": name, "version": version, "promoted_at": moment, "why": why}
    connection.execute(insert(ModelUpdate), row)
