"""Whether the console itself works, for supervisors and Prometheus. No token, and nothing of anybody's data.

None of them waits for anything, so they run on the event loop: threads may all be taken by requests that wait.
"""

from importlib.metadata import version

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from ops.dashboard.answers import Health
from ops.dashboard.context import Context, InContext

router = APIRouter(tags=["health"])


@router.get("/health", response_model=Health)
async def health(context: InContext) -> JSONResponse:
    """200 while it can answer from SQL, else 503."""
    found = health_of(context)
    return JSONResponse(found.model_dump(), 200 if found.ready else 503)


@router.get("/health/live", response_class=PlainTextResponse)
async def live() -> str:
    """While the process answers."""
    return "live\n"


@router.get("/health/ready", response_class=PlainTextResponse)
async def ready(context: InContext) -> PlainTextResponse:
    found = health_of(context)
    return PlainTextResponse("ready\n" if found.ready else "not ready\n", 200 if found.ready else 503)


@router.get("/metrics", response_class=Response, responses={200: {"content": {CONTENT_TYPE_LATEST: {}}}})
async def metrics(context: InContext) -> Response:
    """Of the console, in Prometheus' text format; workers have their own."""
    return Response(generate_latest(context.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def health_of(context: Context) -> Health:
    """Without SQL there is nothing to show; without Kafka or Redis most of it goes on."""
    services = context.status.services()
    return Health(ready=services.sql, services=services, version=version("headgate"))
