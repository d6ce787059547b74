"""Alerts over HTTP: filters, order, pages, one in full, the budget."""

import json
from base64 import urlsafe_b64encode
from datetime import timedelta

import pytest

from storage.database import Database
from storage.registry import ModelRegistry
from tests.ops.dashboard.conftest import Console, StartConsole
from tests.storage.rows import NOON, RowMaker

MINUTE = timedelta(minutes=1)


@pytest.fixture
def console(start_console: StartConsole, database_url: str) -> Console:
    return start_console(database_url)


def ids(console: Console, **query: object) -> list[str]:
    return [alert["alert_id"] for alert in console.get("/api/alerts", **query)["alerts"]]


@pytest.fixture
def some(rows: RowMaker) -> None:
    """a: closed as fraud, b: open and judged legitimate by its event, c: open and critical, d: open and low."""
    rows.alert("a", ["e1"], account_id="anna", scored_at=NOON)
    rows.alert("a", ["e1", "e2"], account_id="anna", revision=2, scored_at=NOON + MINUTE)
    rows.alert("a", ["e1", "e2"], account_id="anna", revision=3, status="closed", closed_by="label", scored_at=NOON)
    rows.alert("b", ["e3"], account_id="ben", scored_at=NOON + 2 * MINUTE, model="detector:2")
    rows.alert("c", ["e4"], account_id="cleo", scored_at=NOON + 3 * MINUTE, severity="critical", score=0.7)
    rows.alert("d", ["e5"], account_id="dan", scored_at=NOON + 4 * MINUTE, severity="low", reasons=[])
    rows.label("l1", "legitimate", alert_id="a")
    rows.label("l2", "fraud", event_id="e2", given_at=NOON + MINUTE, source="chargeback")
    rows.label("l3", "legitimate", event_id="e3")
    rows.label("l4", "fraud", alert_id="d", status="pending")


@pytest.mark.usefixtures("some")
def test_each_alert_is_listed_once_at_its_latest_revision_with_the_newest_label(console: Console) -> None:
    listed = console.get("/api/alerts")["alerts"]

    assert [alert["alert_id"] for alert in listed] == ["d", "c", "b", "a"]
    last = listed[-1]
    assert (last["revision"], last["status"], last["closed_by"], last["events"]) == (3, "closed", "label", 2)
    assert (last["label"], last["label_source"], last["label_given_at"]) == (
        "fraud",
        "chargeback",
        "2026-03-14T12:01:00Z",
    )
    assert last["reason"] == "ten times the usual"
    assert listed[0]["reason"] is None
    assert listed[0]["label"] is None, "what is pending does not count yet"


FILTERS: list[tuple[dict[str, str], list[str]]] = [
    ({"status": "open"}, ["d", "c", "b"]),
    ({"status": "closed"}, ["a"]),
    ({"severity": "low,critical"}, ["d", "c"]),
    ({"label": "fraud"}, ["a"]),
    ({"label": "legitimate"}, ["b"]),
    ({"label": "none"}, ["d", "c"]),
    ({"account": "cleo"}, ["c"]),
    ({"model": "detector:2"}, ["b"]),
    ({"search": "e2"}, ["a"]),
    ({"search": "be"}, ["b"]),
    ({"search": "%"}, []),
    ({"since": "2026-03-14T12:03:00Z"}, ["d", "c"]),
    ({"until": "2026-03-14T12:02:00Z"}, ["a"]),
    ({"order": "worst"}, ["c", "b", "a", "d"]),
    ({"status": "open", "label": "none", "severity": "low", "search": "d"}, ["d"]),
]


@pytest.mark.usefixtures("some")
def test_a_filter_leaves_what_it_says(console: Console) -> None:
    for query, found in FILTERS:
        assert ids(console, **query) == found, query


@pytest.mark.usefixtures("some")
def test_pages_hold_every_alert_once_in_the_order_of_the_whole_list(console: Console) -> None:
    for order in ("newest", "worst"):
        paged, cursor = [], None
        while True:
            page = console.get("/api/alerts", order=order, limit=1, **({"cursor": cursor} if cursor else {}))
            paged += [alert["alert_id"] for alert in page["alerts"]]
            cursor = page["next"]
            if cursor is None:
                break

        assert paged == ids(console, order=order)
        assert len(paged) == 4


WRONG: list[dict[str, object]] = [
    {"status": "shut"},
    {"severity": "low,awful"},
    {"limit": 201},
    {"limit": 0},
    {"since": "2026-03-14T12:00:00"},
    {"cursor": "bm90aGluZw"},
    {"cursor": "%%%"},
    {"search": ""},
]


def test_a_wrong_query_is_refused_in_words(console: Console) -> None:
    for query in WRONG:
        error = console.error("/api/alerts", 422, **query)
        assert error["code"] == "invalid"
        assert error["message"].startswith("query."), query


def test_one_alert_has_its_labels_predictions_and_timeline(console: Console, rows: RowMaker) -> None:
    rows.scored("e1", flagged=True, alert_id="a", memo="rent")
    rows.scored("e2", flagged=True, alert_id="a", amount_e4=50_000)
    rows.scored("e3")
    entry = {"event_id": "e1", "occurred_at": "2026-03-14T12:00:00Z", "amount": 12.5, "currency": "EUR"}
    rows.alert("a", ["e1", "e2"], timeline=[{**entry, "merchant_id": "m1", "score": 0.9, "flagged": True}])
    rows.label("l1", "legitimate", alert_id="a")
    rows.label("l2", "fraud", event_id="e2", given_at=NOON + MINUTE, status="pending")

    found = console.get("/api/alerts/a")

    assert found["event_ids"] == ["e1", "e2"]
    assert [(label["feedback_id"], label["status"]) for label in found["labels"]] == [
        ("l2", "pending"),
        ("l1", "joined"),
    ]
    assert found["label"] == "legitimate"
    predictions = {each["event_id"]: each for each in found["predictions"]}
    assert (predictions["e1"]["memo"], predictions["e2"]["amount"]) == ("rent", 5.0)
    assert predictions.keys() == {"e1", "e2"}
    assert predictions["e1"]["label"] == "legitimate", "a label on an alert is one on each of its events"
    assert found["timeline"][0]["channel"] is None


def test_an_unknown_alert_is_not_found(console: Console) -> None:
    assert console.error("/api/alerts/nothing", 404)["code"] == "not_found"


def test_the_budget_of_a_day_is_that_of_the_champion_of_that_day(
    console: Console, rows: RowMaker, database: Database
) -> None:
    registry = ModelRegistry(database, console.context.sources.registry.root)
    for number, (budget, days_ago) in enumerate([(50.0, 2), (80.0, 0)], 1):
        metrics = {"alerts_per_day": budget}
        moment = NOON - timedelta(days=days_ago)
        registry.register("fraud", "gru", b"%d" % number, feature_schema=1, metrics=metrics, clock=lambda: NOON)
        registry.promote("fraud", number, "test", lambda moment=moment: moment)
    yesterday = NOON - timedelta(days=1)
    rows.alert("a", ["e1"], occurred_at=yesterday, scored_at=yesterday)
    rows.alert("a", ["e1"], revision=2, status="closed", occurred_at=yesterday)
    rows.alert("b", ["e2"])
    rows.alert("c", ["e3"])

    found = console.get("/api/alerts/budget", days=4)

    assert [(day["day"], day["opened"], day["budget"]) for day in found["days"]] == [
        ("2026-03-11", 0, None),
        ("2026-03-12", 0, 50.0),
        ("2026-03-13", 1, 50.0),
        ("2026-03-14", 2, 80.0),
    ]
    assert (found["open"], found["today"], found["budget"]) == (2, 2, 80.0)


def test_an_address_with_a_nul_character_is_refused(console: Console) -> None:
    for path in ("/api/alerts/%00", "/api/items/a%00b", "/api/predictions/%00"):
        assert console.error(path, 422)["code"] == "invalid"
    for name in ("account", "search", "model"):
        assert console.error("/api/alerts", 422, **{name: "a\x00"})["code"] == "invalid"


@pytest.mark.parametrize(
    ("order", "place"),
    [
        ("newest", [{"at": "2026-03-14T12:00:00"}, "a"]),
        ("worst", [100, 0.5, {"at": "2026-03-14T12:00:00Z"}, "a"]),
        ("worst", [-1, 0.5, {"at": "2026-03-14T12:00:00Z"}, "a"]),
        ("worst", [2**63, 0.5, {"at": "2026-03-14T12:00:00Z"}, "a"]),
    ],
)
def test_a_cursor_that_no_list_gave_is_refused(console: Console, order: str, place: list[object]) -> None:
    cursor = urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")
    assert console.error("/api/alerts", 422, order=order, cursor=cursor)["code"] == "invalid"
