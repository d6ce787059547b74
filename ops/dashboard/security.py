"""Who may use the API: whom a request comes from, whether he asks too often, and the role that a route requires.

Everything below /api passes `admit` before anything of it is read, so that a route that was forgotten is closed and not
open. Then the route's own `Requires` looks at the role.

Browsers say which page a request comes from, and no other page may use the API. Where no tokens are set everybody is
operator: the console then listens on loopback alone, and answers only those that name a loopback host.
"""

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request

from ops.dashboard.errors import ApiError
from ops.dashboard.limits import Limits, caller_at
from ops.dashboard.roles import Access, Role, User, is_loopback

#: Methods that change nothing, and the one of those that change something which a form can send.
SAFE, OF_FORMS = frozenset({"GET", "HEAD", "OPTIONS"}), "POST"
JSON = "application/json"


def admit(request: Request, access: Access, limits: Limits) -> User:
    """Whom a request comes from. Raises ApiError."""
    if not access.needs_token:
        refuse_other_hosts(request)
    refuse_other_pages(request)
    user = known_user(request, access, limits)
    if request.method in SAFE:
        limits.reads.take(user.name)
    else:
        limits.writes.take(user.name)
    if request.method == OF_FORMS:
        refuse_other_content(request)
    return user


def refuse_other_hosts(request: Request) -> None:
    """A name that some other page had resolved to this machine."""
    if not is_loopback(_host_name(request.headers.get("host", ""))):
        raise ApiError(
            403, "forbidden", "without HEADGATE_DASHBOARD_TOKENS the console answers on loopback names alone"
        )


def refuse_other_pages(request: Request) -> None:
    """By what browsers of today say (Sec-Fetch-Site), or those of yesterday (Origin). Programs say neither."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        own = site in ("same-origin", "none")  # none: the user himself, as by a bookmark
    else:
        own = origin is None or _of_origin(origin) == request.headers.get("host", "")
    if not own:
        raise ApiError(403, "forbidden", "no other page may use the console")


def refuse_other_content(request: Request) -> None:
    """What a form of another page could send without being asked."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise ApiError(415, "unsupported", f"send Content-Type: {JSON}")


def known_user(request: Request, access: Access, limits: Limits) -> User:
    """By his token. Who tries too many that are none is not looked at for a while."""
    address = caller_at(request.client.host if request.client else "")
    authorization = request.headers.get("authorization")
    limits.failed_logins.check(address)
    user = access.user_of(authorization)
    if user is not None:
        return user
    (limits.reads if authorization is None else limits.failed_logins).take(address)
    raise unauthorized()


def unauthorized() -> ApiError:
    return ApiError(401, "unauthorized", "send a token: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})


async def user_of(request: Request) -> User:
    """Of a request that was admitted."""
    user: User | None = getattr(request.state, "user", None)
    if user is None:
        raise unauthorized()
    return user


#: For routes that need to know who asks.
Caller = Annotated[User, Depends(user_of)]


class Requires:
    """A dependency of routes: at least this role."""

    def __init__(self, role: Role) -> None:
        self.role = role

    async def __call__(self, user: Caller) -> None:
        if user.role < self.role:
            raise ApiError(403, "forbidden", f"needs the role {self.role.label}; this token's is {user.role.label}")


VIEWER, ANALYST, OPERATOR = (Depends(Requires(role)) for role in Role)


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _of_origin(origin: str) -> str | None:
    """Its host and port; None for one that is none."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None
