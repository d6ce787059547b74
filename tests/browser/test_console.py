"""The console in a browser, on a running Headgate: what analysts and operators do with it, and how it meets markup in
data, lost connections and missing rights."""

import json
import re

import pytest
from playwright.sync_api import Page, expect

from models.feature_schema import FEATURE_SCHEMA
from ops.clock import utc_now
from storage.registry import ModelRegistry
from streams.detection import MODEL_NAME
from tests.browser.conftest import OpenPage, Running
from tests.browser.console import PHONE, SHORTCOMINGS, WIDE, ConsoleProcess
from tests.deployment import wait_until

pytestmark = pytest.mark.timeout(180)

#: Runs something wherever it is taken for HTML.
MARKUP = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"
TOKENS = {"viewer": "token-of-a-viewer", "analyst": "token-of-an-analyst", "operator": "token-of-an-operator"}
COUNTS = {"events": 6400, "frauds": 32, "accounts": 90, "flagged": 20}
MEASURED = {"measures": {"average_precision": 0.5}, "intervals": {"average_precision": [0.4, 0.625]}}
CARD = {
    "kind": "detector",
    "data": {"from": "2026-11-01T00:00:00+00:00", "events": 12_800, "matured_until": None},
    "quality": [
        COUNTS | MEASURED | {"kind": "channel", "name": MARKUP},
        COUNTS | {"kind": "amount", "name": "0 to below 10", "measures": {}, "intervals": {}},
    ],
    "calibration": {"expected_error": 0.001, "bins": [{"mean_score": 0.25, "fraud_share": 0.5, "events": 1280}]},
    "limits": [f"Not tested: {MARKUP}"],
    "settings": {"hidden": 64, "name": MARKUP},
    "code": "0.1.0",
}
CLOSED_PORT = "127.0.0.1:1"


def heading(page: Page, name: str) -> None:
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()


def row_of(page: Page, alert_id: str) -> str:
    return f'[data-alert="{alert_id}"]'


def champion(running: Running) -> int:
    found = ModelRegistry(running.deployment.database, str(running.deployment.models)).champion(MODEL_NAME)
    assert found is not None
    return found.version


def confirm(page: Page, action: str, why: str | None = None) -> None:
    dialog = page.get_by_role("dialog")
    if why is not None:
        expect(dialog.get_by_role("button", name=action)).to_be_disabled()
        dialog.get_by_label("Why?").fill(why)
    dialog.get_by_role("button", name=action).click()
    expect(dialog).to_be_hidden()


def assert_markup_is_text(page: Page) -> None:
    expect(page.locator("main img[src=x], main script")).to_have_count(0)
    assert page.title() != "run"


def test_an_alert_appears_by_itself_and_is_labelled_by_button_and_by_key(
    running: Running, console: ConsoleProcess, open_page: OpenPage
) -> None:
    page = open_page(console)
    heading(page, "Live")
    expect(page.get_by_text("No alerts yet")).to_be_visible()
    earlier, later = running.pay_oddly("walk-earlier"), running.pay_oddly("walk-later")
    expect(page.locator(".stream").get_by_text("walk-earlier")).to_be_visible()
    page.locator(".stream").get_by_text("walk-later").click()

    heading(page, "walk-later")
    expect(page.get_by_role("region", name="Why")).to_contain_text("9,900.00")
    expect(page.get_by_role("img", name=re.compile("^Recent events of the account. 5 events"))).to_be_visible()
    page.get_by_role("button", name="Fraud f").click()
    expect(page.get_by_text("Labelled “fraud”")).to_be_visible()
    expect(page.get_by_role("table", name="Labels so far")).to_contain_text("analyst")
    assert running.labels(later) == ["fraud"]

    page.keyboard.press("Escape")
    expect(page.locator(row_of(page, later))).to_be_focused()
    page.keyboard.press("j")
    expect(page.locator(row_of(page, earlier))).to_be_focused()
    page.keyboard.press("f")
    expect(page.locator(row_of(page, earlier)).locator(".label-fraud")).to_be_visible()
    assert running.labels(earlier) == ["fraud"]
    assert page.evaluate("performance.getEntriesByType('navigation').length") == 1


def test_a_challenger_is_promoted_and_rolled_back_with_reasons(
    running: Running, console: ConsoleProcess, open_page: OpenPage, detector: bytes
) -> None:
    registry = ModelRegistry(running.deployment.database, str(running.deployment.models))
    made = registry.register(
        MODEL_NAME,
        "detector",
        detector,
        feature_schema=FEATURE_SCHEMA,
        metrics={"average_precision": 0.8125, "card": CARD},
        clock=utc_now,
        alias="challenger",
    )
    page = open_page(console, "#/models")
    page.get_by_role("link", name=f"fraud:{made.version}").click()
    heading(page, f"fraud:{made.version}")
    expect(page.get_by_role("definition").filter(has_text="0.8125")).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("channel "))).to_contain_text("0.5 (0.4 to 0.625)")
    expect(page.get_by_role("row", name=re.compile("amount 0 to below 10"))).to_contain_text("6,400")
    expect(page.get_by_role("listitem").filter(has_text="Not tested")).to_contain_text(MARKUP)
    assert_markup_is_text(page)
    assert page.evaluate(SHORTCOMINGS) == []
    page.get_by_role("button", name="Promote …").click()
    confirm(page, "Promote", f"fewer false alerts {MARKUP}")
    expect(page.get_by_label("In use")).to_contain_text(f"fewer false alerts {MARKUP}")
    assert_markup_is_text(page)
    assert champion(running) == made.version

    page.get_by_role("link", name="All models").click()
    page.get_by_role("button", name="Roll back …").click()
    confirm(page, "Roll back", "too many alerts")
    expect(page.get_by_role("row", name=re.compile("fraud:1"))).to_contain_text("champion")
    assert champion(running) == 1


def test_a_dead_letter_is_read_as_text_and_replayed(
    running: Running, console: ConsoleProcess, open_page: OpenPage
) -> None:
    page = open_page(console, "#/data")
    running.send("transactions", MARKUP.encode(), MARKUP.encode())
    letters = "SELECT replayed_at FROM dead_letters WHERE error_code = 'invalid_json'"
    wait_until("the dead letter is stored", lambda: running.deployment.sql(letters))
    page.reload()
    page.get_by_role("table", name="Dead letters").get_by_role("link").first.click()
    expect(page.get_by_label("Content of the record")).to_have_text(MARKUP)
    assert_markup_is_text(page)

    page.get_by_role("button", name="Replay …").click()
    confirm(page, "Replay")
    expect(page.get_by_text("it is among the dead letters again")).to_be_visible()
    wait_until("it is a dead letter again", lambda: len(running.deployment.sql(letters)) == 2)
    assert sum(row.replayed_at is not None for row in running.deployment.sql(letters)) == 1
    sent = [record.value for record in running.deployment.records("transactions")]
    assert sent.count(MARKUP.encode()) == 2


def test_markup_in_an_alert_is_text(running: Running, console: ConsoleProcess, open_page: OpenPage) -> None:
    alert = running.pay_oddly(MARKUP, memo=MARKUP, merchant_id=MARKUP[:60], country="<b>")
    page = open_page(console)
    expect(page.locator(".stream").get_by_text(MARKUP)).to_be_visible()
    assert_markup_is_text(page)
    page.goto(f"{console.url}/#/alerts/{alert}")
    heading(page, MARKUP)
    expect(page.get_by_role("table", name="Events of this alert")).to_contain_text(MARKUP)
    expect(page.locator(row_of(page, alert))).to_contain_text(MARKUP)
    page.locator(".chart-area").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".readout")).to_contain_text(MARKUP[:60])
    assert_markup_is_text(page)


def test_a_lost_connection_is_said_and_taken_up_again_without_missing_an_alert(
    running: Running, open_page: OpenPage
) -> None:
    first = running.console()
    url = first.url
    page = open_page(first)
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    assert first.stop() == 0
    expect(page.get_by_text("What you see may be old.")).to_be_visible()
    expect(page.get_by_text("not connected")).to_be_visible()

    running.pay_oddly("made-while-lost")
    running.deployment.wait_relayed()
    assert running.console(DASHBOARD_PORT=url.rpartition(":")[2]).url == url
    expect(page.get_by_text("What you see may be old.")).to_be_hidden()
    expect(page.locator(".stream").get_by_text("made-while-lost")).to_be_visible()


def test_a_token_decides_what_the_pages_offer(running: Running, open_page: OpenPage) -> None:
    alert = running.pay_oddly("for-roles")
    console = running.console(DASHBOARD_TOKENS=",".join(f"{role}={token}" for role, token in TOKENS.items()))
    page = open_page(console, f"#/alerts/{alert}")

    def come_with(token: str) -> None:
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Go on").click()

    come_with("a-wrong-one")
    expect(page.get_by_text("The server did not accept that token.")).to_be_visible()
    come_with(TOKENS["viewer"])
    heading(page, "for-roles")
    expect(page.get_by_text("Your role may look, not label.")).to_be_visible()
    expect(page.get_by_role("button", name="Fraud f")).to_have_count(0)
    page.keyboard.press("f")
    page.get_by_role("button", name="Change token").click()

    come_with(TOKENS["analyst"])
    page.get_by_role("button", name="Legitimate l").click()
    expect(page.get_by_text("Labelled “legitimate”")).to_be_visible()
    assert running.labels(alert) == ["legitimate"]
    page.goto(f"{console.url}/#/models/fraud/1")
    heading(page, "fraud:1")
    expect(page.get_by_role("button", name="Promote …")).to_have_count(0)
    assert page.context.cookies() == []
    assert page.evaluate("JSON.stringify(localStorage)") == "{}"


def test_a_verdict_that_kafka_did_not_take_is_shown_as_not_sent(running: Running, open_page: OpenPage) -> None:
    alert = running.pay_oddly("without-kafka")
    page = open_page(running.console(KAFKA=CLOSED_PORT), f"#/alerts/{alert}")
    expect(page.get_by_text(re.compile("^Kafka is away"))).to_be_visible()
    page.get_by_role("button", name="Fraud f").click()
    expect(page.get_by_text(re.compile("^Not sent.*Kafka"))).to_be_visible()
    expect(page.locator(row_of(page, alert))).to_contain_text("not sent: fraud")
    assert running.labels(alert) == []


def test_every_page_is_named_and_fits_a_telephone(
    running: Running, console: ConsoleProcess, open_page: OpenPage
) -> None:
    alert = running.pay_oddly("a-rather-long-account-number-that-has-no-place-to-break-at-all-1234567890")
    running.send("transactions", b"k", json.dumps({"event_id": "x" * 300}).encode())
    letters = "SELECT topic_generation, source_partition, source_offset FROM dead_letters WHERE record_key = 'k'"
    place = wait_until("the dead letter is stored", lambda: running.deployment.sql(letters))[0]
    event = running.deployment.value("SELECT max(event_id) FROM v_predictions")
    wheres = {
        "#/live": ("Live", "a-rather-long"),
        "#/alerts": ("Alerts", "a-rather-long"),
        f"#/alerts/{alert}": ("Alerts", "Labels so far"),
        "#/models": ("Models", "champion"),
        "#/models/fraud/1": ("fraud:1", "Metrics"),
        "#/recommendations?user=nobody": ("Recommendations", "Not found."),
        f"#/data/{'/'.join(map(str, place))}?event={event}": ("Data", "v_predictions"),
    }
    page = open_page(console)
    found: dict[str, list[str]] = {}
    for size in (PHONE, WIDE):
        page.set_viewport_size(size)
        for where, (title, content) in wheres.items():
            page.goto(f"{console.url}/{where}")
            expect(page.locator("main h1")).to_have_text(title)
            expect(page.locator("main").get_by_text(content).filter(visible=True).first).to_be_visible()
            expect(page.locator(".loading")).to_have_count(0)
            page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
            found[f"{where} at {size['width']}"] = page.evaluate(SHORTCOMINGS)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    found["help"] = page.evaluate(SHORTCOMINGS)
    assert {where: what for where, what in found.items() if what} == {}
