"""Chromium, a whole worker and consoles of it. A module's tests share a deployment: each has accounts of its own."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from ops.bench.browser import chromium, launched
from tests.browser.console import WIDE, Complaints, ConsoleProcess
from tests.conftest import cannot_be_had, fresh_database
from tests.deployment import Deployment, deployed, wait_until
from tests.flow_fixtures import detector
from tests.fraud_model import transaction

__all__ = ["detector"]

#: Pages try a lost connection again after up to 38 s.
SECONDS = 60
USUAL, FRAUD = (22.0, 24.5, 21.0, 23.9), 9_900.0

expect.set_options(timeout=SECONDS * 1000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Ends with its module: Playwright's event loop would be in the way of every other."""
    program = chromium()
    if program is None:
        cannot_be_had("no Chromium: install Debian's package chromium")
    with launched(program) as browser:
        yield browser


@dataclass(slots=True)
class Running:
    """A deployment with a worker, and what its users do to it."""

    deployment: Deployment
    cleanup: ExitStack
    folder: Path
    numbers: Iterator[int]

    def console(self, **settings: str) -> ConsoleProcess:
        """One more of them; ends with the tests at the latest."""
        environment = self.deployment.environment(**{"DASHBOARD_PORT": "0"} | settings)
        started = ConsoleProcess(environment, self.folder / f"console-{next(self.numbers)}.log")
        self.cleanup.callback(started.stop)
        return started

    def send(self, topic: str, key: bytes, value: bytes) -> None:
        producer = self.deployment.producer()
        producer.produce(f"{self.deployment.prefix}{topic}", key=key, value=value)
        assert producer.flush(SECONDS) == 0

    def pay_oddly(self, account: str, **more: Any) -> str:
        """Some usual payments of an account and one that raises an alert; waits until it is stored. The alert's id."""
        for amount in (*USUAL, FRAUD):
            number, now = next(self.numbers), round(time.time() * 1000)
            self.send("transactions", *transaction(f"payment-{number}", account, now, amount, **more))
        found = "SELECT alert_id FROM v_alerts WHERE account_id = :account"
        return str(
            wait_until("the alert is stored", lambda: self.deployment.sql(found, account=account), SECONDS)[0].alert_id
        )

    def labels(self, alert_id: str) -> list[str]:
        """The alert's in SQL; none or one."""
        found = self.deployment.sql(
            "SELECT label FROM v_alerts WHERE alert_id = :id AND label IS NOT NULL", id=alert_id
        )
        return [row.label for row in found]


@pytest.fixture(scope="module")
def running(
    kafka_servers: str,
    postgres_maintenance_url: str,
    redis_shared_url: str,
    detector: bytes,
    browser: Browser,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    folder, prefix = tmp_path_factory.mktemp("browser"), f"test-{uuid.uuid4().hex[:10]}."
    with (
        fresh_database(postgres_maintenance_url) as database,
        deployed(kafka_servers, database, redis_shared_url, prefix, folder, detector) as deployment,
        ExitStack() as cleanup,
    ):
        deployment.worker().wait_ready()
        yield Running(deployment, cleanup, folder, count(1))


@pytest.fixture(scope="module")
def console(running: Running) -> ConsoleProcess:
    """Without tokens: whoever opens it is operator."""
    return running.console()


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """open_page(console, where, **how): a page of a fresh browser profile. The test fails where a page complains."""
    complaints = Complaints()
    with ExitStack() as cleanup:

        def opened(console: ConsoleProcess, where: str = "", **how: Any) -> Page:
            context = browser.new_context(**{"viewport": WIDE} | how)
            cleanup.callback(context.close)
            page = context.new_page()
            complaints.listen(page)
            page.goto(f"{console.url}/{where}")
            return page

        yield opened
    assert complaints.said == [], json.dumps(complaints.said, indent=2)
