"""`headgate dashboard`: the console as a server, until told to stop."""

import signal
import socket
from functools import partial
from typing import Any

import uvicorn

from ops.dashboard.app import create_app
from ops.dashboard.connections import BoundedConnection, Patience
from ops.dashboard.roles import Access, DashboardRefused, check_host
from ops.dashboard.sources import open_sources
from ops.settings import Settings
from ops.struct_types import prepare_struct_types

#: For requests that are being answered when the server is told to stop.
STOP_SECONDS = 5
PATIENCE = Patience()


class DashboardServer(uvicorn.Server):
    """Ends open event streams when it is told to stop, for it would wait for them. proxies: addresses with commas that
    may say for whom they ask."""

    def __init__(self, app: Any, *, proxies: str = "", patience: Patience = PATIENCE) -> None:
        context = app.state.context
        connection: Any = partial(BoundedConnection, patience=patience, metrics=context.metrics)
        config = uvicorn.Config(
            app,
            http=connection,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(proxies),
            forwarded_allow_ips=proxies,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        super().__init__(config)
        self._live = context.live

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._live.close()
        await super().shutdown(sockets)


def run_dashboard(settings: Settings) -> None:
    """Prints its address; runs until SIGINT or SIGTERM. Raises DashboardRefused."""
    prepare_struct_types()
    access = Access.of(settings.dashboard_tokens.get_secret_value())
    check_host(settings.dashboard_host, access)
    sources = open_sources(settings)
    try:
        server = DashboardServer(create_app(sources, access), proxies=settings.dashboard_proxies)
        # The server passes signals on to these once it has ended.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))
        with listening_socket(settings.dashboard_host, settings.dashboard_port) as bound:
            print(f"the console is at {address_of(bound)}", flush=True)
            server.run(sockets=[bound])
    finally:
        sources.close()


def listening_socket(host: str, port: int) -> socket.socket:
    """Bound. Raises DashboardRefused where that cannot be."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise DashboardRefused(
            f"cannot listen on {host}, port {port}: {error.strerror or error}; "
            "set HEADGATE_DASHBOARD_HOST or HEADGATE_DASHBOARD_PORT (0 takes a free one)"
        ) from error


def address_of(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
