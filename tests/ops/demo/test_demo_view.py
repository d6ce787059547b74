"""How the demo's live view looks."""

import io
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from rich.console import Console, RenderableType

from ops.demo.readings import AlertFigures
from ops.demo.shop_readings import PolicyFigures, ShopFigures
from ops.demo.view import Picture, live_view, status_line, summary_table
from streams.contract import Alert, Reason, TimelineEntry

MOMENT = datetime(2026, 11, 26, 8, 30, 5, tzinfo=UTC)
ALERT = Alert(
    alert_id="a" * 32,
    revision=2,
    status="open",
    event_ids=["e1", "e2"],
    account_id="acct-[7]",
    occurred_at=MOMENT,
    scored_at=MOMENT,
    score=0.98765,
    score_kind="probability",
    threshold=0.5,
    severity="critical",
    model="fraud:1",
    reasons=[Reason("amount", 900.0, 9.0, 3.0, "amount 900.00 is 100 times the usual 9.00")],
    timeline=[TimelineEntry("e2", MOMENT, Decimal("900.00"), "EUR", "shop-1", 0.98765, True)],
)
PICTURE = Picture(
    elapsed=12.0,
    seconds=60.0,
    events=2400,
    events_per_second=199.6,
    latency_p50=0.0123,
    latency_p99=None,
    lag=3,
    figures=AlertFigures(alerts=8, labelled=4, frauds=3),
    shop=ShopFigures(
        1_234,
        [
            PolicyFigures("recommender:1", 100, 200.0),
            PolicyFigures("recommender:2", 100, 300.0),
            PolicyFigures("popular", 50, 40.0),
            PolicyFigures("random", 80, 80.0),
        ],
    ),
    learning="learns",
    newest=[ALERT],
    model="fraud:1",
    dashboard="http://127.0.0.1:8080",
    exports=["export HEADGATE_KAFKA=127.0.0.1:9092"],
)


def shown(what: RenderableType) -> str:
    console = Console(width=120, height=40, file=io.StringIO(), record=True)
    console.print(what)
    return console.export_text()


def test_the_live_view_shows_rates_the_latest_alerts_with_reasons_and_how_to_connect() -> None:
    text = shown(live_view(PICTURE, rows=40))
    for part in ("200", "12 ms", "75% of 4", "acct-[7]", "critical", "0.988", "900.00 (2)", "100 times the usual"):
        assert part in text
    assert "export HEADGATE_KAFKA=127.0.0.1:9092" in text


def test_the_live_view_shows_what_slates_of_each_policy_earn_and_how_much_more_than_at_random() -> None:
    text = shown(live_view(PICTURE, rows=40))
    for part in ("1,234 recommendations", "learns", "recommender:2 100", "3.00  +200%", "0.80  -20%", "random 80"):
        assert part in text


def test_only_the_newest_versions_have_room() -> None:
    many = [PolicyFigures(f"recommender:{number}", 10, 20.0) for number in range(1, 9)]
    text = shown(live_view(replace(PICTURE, shop=ShopFigures(9, [*many, *PICTURE.shop.policies[2:]])), rows=40))
    assert "recommender:6" not in text
    for name in ("recommender:7", "recommender:8", "popular", "random"):
        assert name in text


def test_before_the_first_slate_the_view_says_so_with_as_many_lines() -> None:
    nothing = shown(live_view(replace(PICTURE, shop=ShopFigures()), rows=40))
    assert "no slate was looked at yet" in nothing
    assert len(nothing.splitlines()) == len(shown(live_view(PICTURE, rows=40)).splitlines())


def test_a_closed_alert_is_shown_as_closed() -> None:
    closed = Alert(**{name: getattr(ALERT, name) for name in Alert.__struct_fields__} | {"status": "closed"})
    assert "closed" in shown(live_view(replace(PICTURE, newest=[closed]), rows=40))


def test_before_the_first_alert_the_view_says_so() -> None:
    assert "no alert yet" in shown(live_view(replace(PICTURE, newest=[]), rows=40))


def test_no_more_alerts_are_shown_than_the_terminal_has_room_for() -> None:
    two_reasons = Alert(
        **{name: getattr(ALERT, name) for name in Alert.__struct_fields__} | {"reasons": 2 * ALERT.reasons}
    )
    for rows in (24, 45):
        text = shown(live_view(replace(PICTURE, newest=[two_reasons] * 40), rows))
        assert text.count("critical") >= 3
        assert len(text.splitlines()) <= rows


def test_a_line_of_a_log_holds_the_same_figures() -> None:
    line = status_line(PICTURE)
    for part in (
        "2,400 events",
        "200/s",
        "p50 12 ms",
        "p99 -",
        "lag 3",
        "8 alerts",
        "precision 75% of 4 labelled",
        "random 1.00",
    ):
        assert part in line


def test_the_summary_names_every_figure() -> None:
    text = shown(
        summary_table(
            {"events": 24000, "all_scored": True, "precision": None, "latency_p50_seconds": 0.0123, "model": "fraud:1"}
            | {"reward_per_slate": {"popular": 1.5}}
        )
    )
    for part in ("24,000", "yes", "precision", "-", "0.012", "fraud:1", "popular 1.500"):
        assert part in text
