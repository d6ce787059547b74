"""Registered models and training runs; promotion and rollback for operators."""

import math
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from models.model_card import CARD
from ops.dashboard.answers import Model, ModelDetail, Models, Run, Runs
from ops.dashboard.context import InContext
from ops.dashboard.security import OPERATOR, VIEWER, Caller
from storage.registry import ModelRecord
from storage.training_runs import newest_runs, runs_of

router = APIRouter(prefix="/api", tags=["models"])

#: Versions fit the database's integers.
Version = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Why(BaseModel):
    """Kept with the model."""

    model_config = ConfigDict(extra="forbid")

    why: str = Field(min_length=1, max_length=1000, pattern=r"^[^\x00]*$")


@router.get("/models", dependencies=[VIEWER])
def models(context: InContext) -> Models:
    """All versions, newest first."""
    return Models(models=[model_of(record) for record in context.sources.registry.list()])


@router.get("/models/{name}/{version}", dependencies=[VIEWER])
def model(context: InContext, name: str, version: Version) -> ModelDetail:
    """One version with the verdict on it, its training runs, and its curves and its card where it has them."""
    record = context.sources.registry.get(name, version)
    with context.reading() as connection:
        runs = runs_of(connection, name, version)
    verdicts = ((run.metrics or {}).get("verdict") for run in runs)
    return ModelDetail(
        **model_of(record).model_dump(),
        verdict=next((verdict for verdict in verdicts if verdict), None),
        runs=[Run.model_validate(run) for run in runs],
        curves=record.metrics.get("curves"),
        card=record.metrics.get(CARD),
    )


@router.get("/runs", dependencies=[VIEWER])
def runs(context: InContext, limit: Annotated[int, Query(ge=1, le=200)] = 50) -> Runs:
    """Training runs, newest first."""
    with context.reading() as connection:
        return Runs(runs=[Run.model_validate(run) for run in newest_runs(connection, limit)])


@router.post("/models/{name}/{version}/promote", dependencies=[OPERATOR])
def promote(context: InContext, user: Caller, name: str, version: Version, body: Why) -> Model:
    """Makes a version the champion; running workers take it over within seconds."""
    sources = context.sources
    return model_of(sources.registry.by(user.name).promote(name, version, body.why, sources.clock))


@router.post("/models/{name}/rollback", dependencies=[OPERATOR])
def rollback(context: InContext, user: Caller, name: str, body: Why) -> Model:
    """Makes the version that was champion before the present one the champion again."""
    sources = context.sources
    return model_of(sources.registry.by(user.name).rollback(name, body.why, sources.clock))


def model_of(record: ModelRecord) -> Model:
    own = {name: getattr(record, name) for name in Model.model_fields if name != "metrics"}
    return Model(**own, metrics=numbers_in(record.metrics))


def numbers_in(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Without texts, curves and what is not finite."""
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
