"""A console that runs, on a migrated database; Kafka and Redis are away unless a test names them."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from ops.dashboard import refreshing
from ops.dashboard.app import create_app
from ops.dashboard.connections import Patience
from ops.dashboard.context import Context
from ops.dashboard.roles import Access
from ops.dashboard.server import DashboardServer, address_of, listening_socket
from ops.dashboard.sources import open_sources
from ops.settings import Settings
from storage.database import Database
from tests.deployment import wait_until
from tests.storage.rows import NOON, RowMaker

SECONDS = 30.0
#: Whom its clients trust: they use no TLS, and reading the usual authorities takes 20 ms each time.
NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TOKENS = "viewer=token-of-a-viewer,analyst=token-of-an-analyst,operator=token-of-an-operator"


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Console:
    """A running one."""

    client: httpx.Client
    context: Context
    server: DashboardServer

    def get(self, path: str, **query: Any) -> Any:
        answer = self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None, expected: int = 200) -> Any:
        answer = self.client.post(path, json={} if body is None else body)
        assert answer.status_code == expected, answer.text
        return answer.json()

    def error(self, path: str, expected: int, body: Any = None, **query: Any) -> dict[str, str]:
        answer = self.client.get(path, params=query) if body is None else self.client.post(path, json=body)
        assert answer.status_code == expected, answer.text
        found: dict[str, str] = answer.json()["error"]
        return found


@pytest.fixture
def rows(database: Database) -> RowMaker:
    return RowMaker(database)


StartConsole = Callable[..., Console]


@pytest.fixture
def start_console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StartConsole]:
    """A console on a database; `tokens` and `token` (sent with each request), and anything of the settings. Its end
    does not wait for a thread that asks a Kafka that is away."""
    monkeypatch.setattr(refreshing, "STOP_SECONDS", 0.05)
    with ExitStack() as cleanup:

        def start(
            database_url: str,
            *,
            tokens: str = "",
            token: str | None = None,
            pages: Path = tmp_path / "pages",
            now: datetime | None = NOON,
            limit_clock: Callable[[], float] = time.monotonic,
            patience: Patience = Patience(),  # noqa: B008 (frozen)
            **values: Any,
        ) -> Console:
            pages.mkdir(exist_ok=True)
            away: dict[str, Any] = {
                "kafka": f"127.0.0.1:{closed_port()}",
                "redis": SecretStr(f"redis://127.0.0.1:{closed_port()}/0"),
                "models": str(tmp_path / "models"),
            }
            settings = Settings(database=SecretStr(database_url), _env_file=None, **(away | values))
            sources = open_sources(settings)
            cleanup.callback(sources.close)
            if now is not None:
                sources = sources.at(lambda: now)
            app = create_app(sources, Access.of(tokens), pages, limit_clock=limit_clock)
            bound = cleanup.enter_context(listening_socket("127.0.0.1", 0))
            server = DashboardServer(app, proxies=settings.dashboard_proxies, patience=patience)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
            thread.start()
            cleanup.callback(thread.join, SECONDS)
            cleanup.callback(setattr, server, "should_exit", True)
            wait_until("the console has started", lambda: server.started, SECONDS)
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            client = cleanup.enter_context(
                httpx.Client(
                    base_url=address_of(bound), headers=headers, timeout=SECONDS, verify=NOBODY, trust_env=False
                )
            )
            return Console(client, app.state.context, server)

        yield start
