"""The application: routes, guards and pages around the sources it is given. Reads no settings, opens nothing."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from ops.dashboard.aggregates import Aggregates
from ops.dashboard.context import Context
from ops.dashboard.errors import ErrorBody, add_error_handlers, not_found
from ops.dashboard.guards import Guards
from ops.dashboard.limits import Limits
from ops.dashboard.live import LiveHub
from ops.dashboard.metrics import DashboardMetrics
from ops.dashboard.neighbours import Neighbours
from ops.dashboard.roles import Access
from ops.dashboard.routes import alerts, audit, data, dead_letters, feedback, health, live, models, recommendations
from ops.dashboard.security import VIEWER
from ops.dashboard.sources import Sources
from ops.dashboard.status import StatusWatch

PAGES = Path(__file__).with_name("static")
ERRORS: dict[int | str, dict[str, Any]] = {"default": {"model": ErrorBody, "description": "What is wrong"}}


def create_app(
    sources: Sources, access: Access, pages: Path = PAGES, *, limit_clock: Callable[[], float] = time.monotonic
) -> FastAPI:
    """pages: a folder with index.html and what it needs. The sources stay the caller's to close."""
    metrics = DashboardMetrics()
    status = StatusWatch(sources, metrics)
    context = Context(
        sources=sources,
        status=status,
        aggregates=Aggregates(sources, metrics),
        live=LiveHub(sources, status, metrics),
        neighbours=Neighbours(sources, metrics),
        metrics=metrics,
    )
    app = FastAPI(
        title="Headgate console",
        version=version("headgate"),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # to an address made of the header Host, and with a POST's body once more
        lifespan=lambda _app: _running(context),
    )
    app.state.context, app.state.access = context, access
    app.add_middleware(Guards, metrics=metrics, access=access, limits=Limits(metrics, limit_clock))
    add_error_handlers(app)
    for part in (alerts, audit, data, dead_letters, feedback, live, models, recommendations):
        app.include_router(part.router, responses=ERRORS)
    app.include_router(health.router)
    _add_openapi(app)
    _add_pages(app, pages)
    return app


@asynccontextmanager
async def _running(context: Context) -> AsyncIterator[None]:
    context.status.start()
    context.aggregates.start()
    context.live.start()
    try:
        yield
    finally:
        await context.live.stop()
        parts = context.status, context.aggregates, context.neighbours
        for part in parts:
            part.stop()
        for part in parts:
            part.join()


def _add_openapi(app: FastAPI) -> None:
    @app.get("/api/openapi.json", dependencies=[VIEWER], include_in_schema=False)
    def openapi() -> dict[str, Any]:
        return app.openapi()


def _add_pages(app: FastAPI, pages: Path) -> None:
    @app.get("/", include_in_schema=False)
    def index() -> FileResponse:
        page = pages / "index.html"
        if not page.is_file():
            raise not_found("this installation has no pages; the API is below /api")
        return FileResponse(page)

    if pages.is_dir():
        app.mount("/static", StaticFiles(directory=pages), name="static")
