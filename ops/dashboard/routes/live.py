"""How the service is now, once or as a stream of server-sent events."""

from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse

from ops.dashboard.answers import Session, Status
from ops.dashboard.context import InContext
from ops.dashboard.security import VIEWER, authenticate

router = APIRouter(prefix="/api", tags=["live"], dependencies=[VIEWER])


@router.get("/session")
def session(request: Request) -> Session:
    """What the sender of this token may do."""
    return Session.model_validate({"role": authenticate(request).label, "tokens": request.app.state.access.needs_token})


@router.get("/status")
def status(context: InContext) -> Status:
    """From looks at SQL, Kafka and Redis, of about the last second."""
    return context.status.status()


@router.get("/live", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}})
async def live(
    context: InContext, last_event_id: Annotated[str | None, Header(max_length=100)] = None
) -> StreamingResponse:
    """Events `status`, `alert` and `operator`. Ids are places in the Redis stream: Last-Event-ID goes on after one."""
    context.live.check_room()
    return StreamingResponse(
        context.live.events(last_event_id), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )
