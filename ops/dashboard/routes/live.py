"""How the service is now, once or as a stream of server-sent events."""

from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ops.dashboard.answers import Session, Status
from ops.dashboard.context import InContext
from ops.dashboard.live import Listener, LiveHub
from ops.dashboard.security import VIEWER, Caller

router = APIRouter(prefix="/api", tags=["live"], dependencies=[VIEWER])


@router.get("/session")
def session(request: Request, user: Caller) -> Session:
    """Who the sender of this token is, and what he may do."""
    tokens = request.app.state.access.needs_token
    return Session.model_validate({"name": user.name, "role": user.role.label, "tokens": tokens})


@router.get("/status")
def status(context: InContext) -> Status:
    """From looks at SQL, Kafka and Redis, of about the last second."""
    return context.status.status()


@router.get("/live", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}})
async def live(
    context: InContext, user: Caller, last_event_id: Annotated[str | None, Header(max_length=100)] = None
) -> StreamingResponse:
    """Events `status`, `alert` and `operator`. Ids are places in the Redis stream: Last-Event-ID goes on after one."""
    return EventStream(context.live, context.live.join(user.name, last_event_id))


class EventStream(StreamingResponse):
    """Frees its place among the listeners however it ends, also where it never began."""

    def __init__(self, hub: LiveHub, listener: Listener) -> None:
        super().__init__(hub.events(listener), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._hub, self._listener = hub, listener

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._hub.leave(self._listener)
