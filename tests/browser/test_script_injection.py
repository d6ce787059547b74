"""Stored script injection: whatever stands in a payment, an item, a record or a reason is text in every page of the
console. The payloads do run where somebody takes them for HTML, which is tried too."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Error, Page, expect

from tests.browser.conftest import OpenPage, Running
from tests.browser.console import WIDE, ConsoleProcess
from tests.deployment import wait_until

pytestmark = pytest.mark.timeout(240)

#: Runs by itself as HTML.
RUNNING = {
    "script": "<script>window.ran=1</script>",
    "handler": "<img src=x onerror=window.ran=1>",
    "out of an attribute": "\"'><svg/onload=window.ran=1>",
    "svg": "<svg><animate onbegin=window.ran=1 attributeName=x dur=1s>",
    "out of a script": "</script></style></title></textarea><img src onerror=window.ran=1>",
}
#: Runs where it becomes an address, a template or a property; or shows something else than it is.
OTHER = {
    "address": "javascript:window.ran=1",
    "template": "${window.ran=1}{{constructor.constructor('window.ran=1')()}}<%=window.ran=1%>",
    "component": '{"type":"img","props":{"dangerouslySetInnerHTML":{"__html":"<img src onerror=window.ran=1>"}}}',
    "bidi and control": "\u202e\u2066evil\u202c\x1b[2J\x07\u200b\ufeff\u2028",
}
PAYLOADS = RUNNING | OTHER


@dataclass
class Watched:
    """What a page did that it must not."""

    page: Page
    dialogs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        def opened(dialog: object) -> None:
            self.dialogs.append(str(dialog))
            dialog.dismiss()  # type: ignore[attr-defined]

        self.page.on("dialog", opened)

    def assert_nothing_ran(self) -> None:
        assert self.dialogs == []
        assert self.page.evaluate("window.ran") is None
        assert self.page.locator("main :is(script, iframe, object, embed, img[src=x], svg animate)").count() == 0
        assert self.page.locator("a[href^='javascript:' i], [onerror], [onload], [onbegin]").count() == 0


def spread(running: Running, payload: str) -> dict[str, str]:
    """The attack: the payload in every field that some page shows. What is needed to find it again."""
    number = next(running.numbers)
    account, short = f"{payload}{number}", payload[:190]
    more = {name: short for name in ("merchant_id", "country", "channel", "category", "memo")}
    alert = running.pay_oddly(account, **more, **{payload[:100]: payload})
    event = str(running.deployment.value("SELECT max(event_id) FROM v_predictions WHERE account_id = :id", id=account))
    item = {
        "item_id": account,
        "title": payload,
        "text": payload,
        "category": short,
        "price": 1,
        payload[:100]: payload,
    }
    running.send("items", account.encode(), json.dumps(item).encode())
    label = {"feedback_id": account, "given_at": round(time.time() * 1000), "kind": "label", "alert_id": alert}
    running.send("feedback", account.encode(), json.dumps(label | {"label": "fraud", "source": short}).encode())
    running.send("transactions", account.encode(), payload.encode())
    places = "SELECT topic_generation, source_partition, source_offset FROM dead_letters WHERE record_key = :key"
    place = wait_until("the dead letter is stored", lambda: running.deployment.sql(places, key=account.encode()))[0]
    wait_until("the label is stored", lambda: running.labels(alert))
    items = "SELECT item_id FROM items WHERE item_id = :id"
    wait_until("the item is stored", lambda: running.deployment.sql(items, id=account))
    return {"account": account, "alert": alert, "event": event, "letter": "/".join(map(str, place))}


def addresses(found: dict[str, str], payload: str) -> Iterator[str]:
    """Pages that show it, and addresses that hold it."""
    account, whole = quote(found["account"], safe=""), quote(payload, safe="")
    yield "#/live"
    yield f"#/alerts?search={account}"
    yield f"#/alerts/{found['alert']}"
    yield f"#/data/{found['letter']}?event={found['event']}"
    yield f"#/recommendations?item={account}&user={account}"
    yield f"#/alerts/{whole}?account={whole}&model={whole}"
    yield f"#/models/{whole}/1"
    yield f"#/{whole}/{whole}"


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_what_data_says_is_text_on_every_page(
    running: Running, console: ConsoleProcess, open_page: OpenPage, payload: str
) -> None:
    found = spread(running, payload)
    page = open_page(console)
    watched = Watched(page)
    for where in addresses(found, payload):
        page.goto(f"{console.url}/{where}")
        expect(page.locator("main h1")).to_be_visible()
        expect(page.locator(".loading")).to_have_count(0)
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        watched.assert_nothing_ran()
    page.goto(f"{console.url}/#/alerts/{found['alert']}")
    if payload.isprintable():
        expect(page.get_by_role("heading", level=2, name=payload).first).to_be_visible()


@pytest.mark.parametrize("payload", RUNNING.values(), ids=RUNNING)
def test_each_payload_runs_where_it_is_taken_for_html(browser: Browser, payload: str) -> None:
    page = browser.new_page()
    page.set_content(f"<main><a title='{payload}'>{payload}</a></main>")
    page.wait_for_function("window.ran === 1")
    page.close()


PUT_IN = """(payload) => {
    const place = document.createElement("p");
    place.innerHTML = payload;
    document.body.append(place);
}"""


def test_even_pages_that_took_it_for_html_would_not_run_it(console: ConsoleProcess, browser: Browser) -> None:
    page = browser.new_page(viewport=WIDE)
    page.goto(console.url)
    expect(page.locator("main h1")).to_be_visible()
    with pytest.raises(Error, match="TrustedHTML"):
        page.evaluate(PUT_IN, RUNNING["handler"])
    assert page.evaluate("window.ran") is None
    page.close()


def test_without_the_content_security_policy_pages_that_took_it_for_html_would_run_it(
    console: ConsoleProcess, browser: Browser
) -> None:
    context = browser.new_context(bypass_csp=True, viewport=WIDE)
    page = context.new_page()
    page.goto(console.url)
    page.evaluate(PUT_IN, RUNNING["handler"])
    page.wait_for_function("window.ran === 1")
    context.close()
