"""`headgate bench console`: how long the console's pages take in a browser, on a database that is full.

A real worker scores a topic of simulated payments, far more of which are flagged than usual, so that there are as many
alerts as predictions ask for; then `headgate dashboard` runs beside it and Chromium opens each page again and again. A
page's time counts from the change of the address to the last frame in which something of it was still being loaded; a
first view's from the navigation, with nothing in the browser's cache. Every payment must be scored once.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from ops.bench.contestants import HEADGATE, alerts_of, contestant, ends_of_alerts, headgate_command, running
from ops.bench.latency import scored, wait_for
from ops.bench.measure import BenchmarkFailed, stored
from ops.bench.stage import stage
from ops.bench.throughput import ending_on_sigterm, machine
from ops.progress import progress_bar
from ops.service import Service, start_service
from storage.database import Database, open_database

Progress = Callable[[str, float], None]

SCORING_SECONDS, CONSOLE_SECONDS = 600.0, 60.0
#: Figures that the console computes in the background are there once its API says as of when.
#: Of the Redis stream: none is dropped, so that they can be counted.
ALL_ALERTS = 100_000_000
IN_BACKGROUND = ("detection", "rewards", "coverage")
ADDRESS = re.compile(r"the console is at (\S+)")

#: Milliseconds until a page is complete: the last frame in which something was being loaded, seen from 150 ms of quiet.
COMPLETE = """async ({ address, page }) => {
    const began = address === null ? 0 : performance.now();
    if (address !== null) location.hash = address;
    const frame = () => new Promise(requestAnimationFrame);
    let last = null;
    while (last === null || performance.now() - last < 150) {
        await frame();
        const content = document.querySelector(`#content.page-${page}`);
        const busy = content === null || content.querySelector(".loading, [aria-busy=true]") !== null;
        if (busy || last === null) last = performance.now();
        if (performance.now() - began > 20000) return null;
    }
    return last - began;
}"""
ANY_ALERT = text("""
SELECT a.alert_id, a.account_id, p.event_id FROM v_alerts a JOIN v_predictions p ON p.account_id = a.account_id
LIMIT 1
""")


@dataclass(frozen=True, slots=True)
class ConsoleConfig:
    """alert_share: of payments that are flagged, about half of them in an alert of their own; loads: of each page."""

    payments: int
    alert_share: float
    accounts: int
    loads: int


@dataclass(frozen=True, slots=True)
class View:
    """A page under its address (what comes after #), or one of its views. page: its name among the styles."""

    name: str
    address: str
    page: str


def run_console(config: ConsoleConfig, *, quiet: bool) -> dict[str, Any]:
    """The result as `--json` prints it, in seconds; shown as a table unless quiet. Raises BenchmarkFailed,
    ServiceUnavailable."""
    program = browser_program()
    with (
        ending_on_sigterm(),
        progress_bar(quiet) as progress,
        stage(config.payments, config.accounts, 4, 64, progress, config.alert_share) as prepared,
        prepared.database() as url,
    ):
        database = open_database(url)
        try:
            entrant, alerts_before = contestant(HEADGATE), ends_of_alerts(prepared.kafka)
            with running(
                entrant, prepared, url, {"ALERT_RULE": "registered", "ALERTS_STREAM_MAXLEN": str(ALL_ALERTS)}
            ) as worker:
                wait_for(lambda: scored(database) >= config.payments, SCORING_SECONDS, "not every payment was scored")
                problems = alerts_of(prepared, database, alerts_before).problems()
                command = headgate_command("dashboard", prepared, url, "console", "console", {"DASHBOARD_PORT": "0"})
                with start_service(command) as console:
                    address = ready_address(console)
                    views, rows = views_of(database), counts(database)
                    times = page_times(program, address, views, config.loads, progress)
                if not worker.running:
                    raise BenchmarkFailed(f"the worker ended. {worker.end_of_log(30)}")
            problems += stored(database, entrant.counted).problems(config.payments)
        finally:
            database.engine.dispose()
    if problems:
        raise BenchmarkFailed(f"the figures do not count: {'; '.join(problems)}")
    result = {**rows, "loads": config.loads, **times, "machine": machine()}
    if not quiet:
        show(result, Console())
    return result


def browser_program() -> str:
    """Raises BenchmarkFailed where there is no browser, or nothing to steer it with."""
    try:
        from ops.bench.browser import chromium
    except ImportError as error:
        raise BenchmarkFailed("Playwright steers the browser: pip install 'headgate[test]'") from error
    found = chromium()
    if found is None:
        raise BenchmarkFailed("there is no Chromium on this machine; Debian's package is called chromium")
    return found


def ready_address(console: Service) -> str:
    """Waits until the console runs and has computed what it computes in the background."""

    def printed() -> str | None:
        if not console.running:
            raise BenchmarkFailed(f"the console ended. {console.end_of_log(30)}")
        found = ADDRESS.search(console.command.log.read_text(errors="replace"))
        return found[1] if found else None

    wait_for(lambda: printed() is not None, CONSOLE_SECONDS, "the console printed no address")
    address = str(printed())
    with httpx.Client(base_url=f"{address}/api", timeout=CONSOLE_SECONDS) as client:

        def computed() -> bool:
            return all(client.get(f"/{name}").raise_for_status().json()["as_of"] for name in IN_BACKGROUND)

        wait_for(computed, CONSOLE_SECONDS, "the console did not compute its figures")
    return address


def views_of(database: Database) -> list[View]:
    """All pages, with one alert, one account and one event that there are."""
    with database.reading() as connection:
        found = connection.execute(ANY_ALERT).first()
    if found is None:
        raise BenchmarkFailed("no alert was raised")
    return [
        View("live", "#/live", "live"),
        View("alerts", "#/alerts", "alerts"),
        View("open alerts, worst first", "#/alerts?status=open&order=worst", "alerts"),
        View("alerts found by account", f"#/alerts?search={found.account_id}", "alerts"),
        View("one alert", f"#/alerts/{found.alert_id}", "alerts"),
        View("models", "#/models", "models"),
        View("one model", "#/models/fraud/1", "models"),
        View("recommendations", "#/recommendations", "recommendations"),
        View("data", "#/data", "data"),
        View("one prediction", f"#/data?event={found.event_id}", "data"),
    ]


def counts(database: Database) -> dict[str, int]:
    with database.reading() as connection:
        return {
            name: int(connection.execute(text(f"SELECT count(*) FROM {name}")).scalar() or 0)
            for name in ("v_predictions", "v_alerts")
        }


def page_times(
    program: str, address: str, views: Sequence[View], loads: int, progress: Progress
) -> dict[str, dict[str, Any]]:
    """Of the first view, each time in a new profile, and of every view: the median and the longest, in seconds."""
    from ops.bench.browser import launched

    first: list[float] = []
    times: dict[str, list[float]] = {view.name: [] for view in views}
    with launched(program) as browser:
        for number in range(loads):
            with browser.new_context(viewport={"width": 1280, "height": 800}) as context:
                page = context.new_page()
                page.goto(address, wait_until="commit")
                first.append(seconds_of("the first view", page.evaluate(COMPLETE, {"address": None, "page": "live"})))
                for view in [*views[1:], views[0]]:  # where the page is already comes last
                    taken = page.evaluate(COMPLETE, {"address": view.address, "page": view.page})
                    times[view.name].append(seconds_of(view.name, taken))
            progress("pages", (number + 1) / loads)
    return {"first_view": shortly(first), "pages": {name: shortly(taken) for name, taken in times.items()}}


def seconds_of(name: str, milliseconds: Any) -> float:
    if milliseconds is None:
        raise BenchmarkFailed(f"{name} was not complete in 20 s")
    return float(milliseconds) / 1000


def shortly(taken: Sequence[float]) -> dict[str, float]:
    return {"median": median(taken), "max": max(taken)}


def show(result: Mapping[str, Any], console: Console) -> None:
    """For a person; fits 80 columns."""
    title = f"{result['v_predictions']:,} predictions, {result['v_alerts']:,} alerts; milliseconds"
    table = Table("page", title=title, title_justify="left")
    for name in ("median", "longest"):
        table.add_column(name, justify="right")
    for name, taken in {"first view": result["first_view"], **result["pages"]}.items():
        table.add_row(name, f"{taken['median'] * 1000:,.0f}", f"{taken['max'] * 1000:,.0f}")
    console.print(table)
