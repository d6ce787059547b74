"""Who may use a route: the role it requires, and what a console without tokens still refuses.

Without tokens everybody who reaches the console is operator. It then listens on loopback alone, and since any page in a
browser of this machine can send requests there, it answers only those that name a loopback host and come from no other
page. With tokens neither matters: no page can know one.
"""

from urllib.parse import urlsplit

from fastapi import Depends, Request

from ops.dashboard.errors import ApiError
from ops.dashboard.roles import Access, Role, is_loopback


def authenticate(request: Request) -> Role:
    """The role of who sends a request; every route below /api asks. Raises ApiError."""
    access: Access = request.app.state.access
    if not access.needs_token:
        _refuse_other_pages(request)
    role = access.role_of(request.headers.get("authorization"))
    if role is None:
        challenge = {"WWW-Authenticate": "Bearer"}
        raise ApiError(401, "unauthorized", "send a token: Authorization: Bearer TOKEN", challenge)
    return role


class Requires:
    """A dependency of routes: at least this role."""

    def __init__(self, role: Role) -> None:
        self.role = role

    async def __call__(self, request: Request) -> None:
        role = authenticate(request)
        if role < self.role:
            raise ApiError(403, "forbidden", f"needs the role {self.role.label}; this token's is {role.label}")


VIEWER, ANALYST, OPERATOR = (Depends(Requires(role)) for role in Role)


def _refuse_other_pages(request: Request) -> None:
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    if not is_loopback(urlsplit(f"//{host}").hostname or ""):
        raise ApiError(
            403, "forbidden", "without HEADGATE_DASHBOARD_TOKENS the console answers on loopback names alone"
        )
    if origin is not None and urlsplit(origin).netloc != host:
        raise ApiError(403, "forbidden", "without HEADGATE_DASHBOARD_TOKENS no other page may use the console")
