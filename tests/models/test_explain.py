"""Reasons: the contribution belongs to what differs from the usual, and the text says it in an analyst's words."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import torch

from models.artifact import TrainedDetector
from models.detector import EMBEDDINGS
from models.events import Events
from models.explain import GROUPS, MOST_REASONS, Facts, Reason, Typical
from models.feature_schema import FEATURES
from models.scoring import Scorer
from models.train_detector import TrainingResult
from tests.models.logs import ends_of_head, log_of, one_at_a_time, untrained
from tests.models.synthetic import REPORTING_LIMIT

HOUR, DAY = 60, 24 * 60


def reasons_for(model: TrainedDetector, events: Events, rows: list[int] | None = None) -> list[list[Reason]]:
    """Of the given rows of one batch, all of them by default."""
    scorer = Scorer(model)
    return scorer.explain(scorer.score(events), np.arange(len(events)) if rows is None else np.array(rows, np.intp))


def account_with(*last: dict[str, Any]) -> Events:
    """A month of everyday payments of about 40, then the given ones a day later."""
    draw = np.random.default_rng(0)
    everyday: list[dict[str, Any]] = [
        {"minute": day * DAY + HOUR * 12, "amount": round(40 * float(np.exp(draw.normal(0, 0.3))), 2)}
        | {"merchant": day % 4, "country": "DE", "category": "c1"}
        for day in range(30)
    ]
    shared = {"merchant": 0, "country": "DE", "category": "c1"}
    return log_of([*everyday, *[shared | {"minute": 30 * DAY + 12 * HOUR + row.get("after", 0)} | row for row in last]])


# What moved the score.


def only_reading(column: int, weight: float) -> TrainedDetector:
    """A detector whose raw output is one input column times a weight."""
    model = untrained(surprise_weight=0.0)
    first, last = ends_of_head(model.network)
    with torch.no_grad():
        for parameter in (first.weight, last.weight, last.bias):
            parameter.zero_()
        first.bias.fill_(1_000.0)  # far from where the unit turns off
        first.weight[0, model.network.config.hidden + column] = weight
        last.weight[0, 0] = 1.0
    return model


#: Which inputs make which reason. How long the history is ("history") makes none.
OWNERS = {
    "amount": "amount amount_to_median amount_deviation amount_to_day_mean amount_to_week_mean amount_to_month_mean "
    "amount_to_merchant_week amount_to_merchant_month",
    "pace": "gap account_count_hour account_count_day account_count_week account_count_month account_amount_day",
    "time": "hour_sin hour_cos weekday_sin weekday_cos",
    "merchant": "new_merchant",
    "country": "new_country country",
    "reporting_limit": "below_limit below_limit_count",
    "merchant_traffic": "merchant_count_day merchant_count_week merchant_count_month",
    "kind": "category channel",
    "memo": "memo",
}
OWNER = {name: reason for reason, names in OWNERS.items() for name in names.split()}


def owned_columns() -> list[tuple[int, str]]:
    """Each input column with the reason that it belongs to; of an embedding its first and last."""
    columns = [(place, OWNER[name]) for place, name in enumerate(FEATURES) if name in OWNER]
    start = len(FEATURES)
    for name, size in {"category": 4, "channel": 2, "country": 4, "memo": 8}.items():
        columns += [(start, OWNER[name]), (start + size - 1, OWNER[name])]
        start += size
    return columns


VARIED = log_of(
    [
        {"account": place % 2, "merchant": place % 5, "minute": 501 * place, "amount": amount, "country": country}
        | {"category": "travel", "memo": "invoice 12"}
        for place, (amount, country) in enumerate(
            [
                (30.0, "DE"),
                (9_000.0, "FR"),
                (70.0, "DE"),
                (8_500.0, None),
                (20.0, "DE"),
                (9_900.0, "FR"),
                (9_800.0, "IT"),
            ]
        )
    ]
)


@pytest.mark.parametrize(("column", "group"), owned_columns())
def test_what_an_input_does_is_told_by_the_reason_that_it_belongs_to(column: int, group: str) -> None:
    told = [
        reason.feature
        for weight in (1.0, -1.0)
        for reasons in reasons_for(only_reading(column, weight), VARIED)
        for reason in reasons
        if reason.contribution > 0.001
    ]
    assert set(told) == {group}


def test_every_input_but_the_length_of_the_history_belongs_to_one_reason() -> None:
    assert OWNER.keys() | {"history"} == {*FEATURES, *EMBEDDINGS, "memo"}
    assert {name: g.name for g in GROUPS for name in (*g.features, *g.embeddings)} == OWNER


def test_a_contribution_is_how_far_the_raw_output_falls_without_its_cause() -> None:
    column = FEATURES.index("below_limit")
    model = only_reading(column, 3.0)
    (reasons,) = reasons_for(model, log_of([{"amount": 0.9 * REPORTING_LIMIT}]))
    assert reasons[0].feature == "reporting_limit"
    assert reasons[0].contribution == pytest.approx(3.0 / float(model.network.scale_F[column]), rel=1e-3)


def test_a_large_amount_is_the_first_reason(trained: TrainingResult) -> None:
    events = account_with({"amount": 3_600.0})
    (reasons,) = reasons_for(trained.model, events, [30])
    assert reasons[0].feature == "amount"
    assert reasons[0].value == 3_600
    assert reasons[0].usual == pytest.approx(40, rel=0.2)
    assert "amount 3,600.00 is " in reasons[0].text


def test_structuring_is_told_by_the_reporting_limit(trained: TrainingResult) -> None:
    amounts = [{"amount": 9_000.0 + 90 * place, "after": 6 * HOUR * place, "merchant": 9} for place in range(4)]
    reasons = {reason.feature: reason for reason in reasons_for(trained.model, account_with(*amounts), [33])[0]}
    assert reasons["reporting_limit"].text == "4 amounts just below 10,000 within about a week"
    assert reasons["reporting_limit"].value == pytest.approx(4, abs=0.5)
    assert reasons["reporting_limit"].contribution > 0


def test_reasons_are_few_and_the_strongest_come_first(trained: TrainingResult) -> None:
    for reasons in reasons_for(trained.model, account_with({"amount": 900.0, "country": "FR", "merchant": 8})):
        contributions = [reason.contribution for reason in reasons]
        assert 1 <= len(reasons) <= MOST_REASONS
        assert contributions == sorted(contributions, reverse=True)
        assert len(reasons) == 1 or min(contributions) >= 0
        assert len({reason.feature for reason in reasons}) == len(reasons)


def test_what_is_not_there_is_no_reason(trained: TrainingResult) -> None:
    for reasons in reasons_for(trained.model, account_with({"amount": 500.0})):
        positive = {reason.feature for reason in reasons if reason.contribution > 0}
        assert positive.isdisjoint({"memo", "reporting_limit"})


def test_reasons_do_not_depend_on_the_batch(trained: TrainingResult) -> None:
    together = reasons_for(trained.model, VARIED)
    scorer = Scorer(trained.model)
    for place, batch in enumerate(one_at_a_time(VARIED)):
        (alone,) = scorer.explain(scorer.score(batch), np.array([0]))
        assert [reason.text for reason in together[place]] == [reason.text for reason in alone]
        for own, other in zip(together[place], alone, strict=True):
            assert own.contribution == pytest.approx(other.contribution, abs=2e-4)


def test_explaining_moves_no_state(trained: TrainingResult) -> None:
    explained, silent = Scorer(trained.model), Scorer(trained.model)
    explained.explain(explained.score(VARIED), np.arange(len(VARIED)))
    silent.score(VARIED)
    later = log_of([{"number": 900 + place, "account": place % 2, "minute": 9_000} for place in range(4)])
    np.testing.assert_array_equal(explained.score(later).score, silent.score(later).score)


# How it is told.

FACTS = Facts(
    amount=950.0,
    usual=50.0,
    counts={"account_count_hour": 2.9, "account_count_month": 36.0, "merchant_count_month": 1_234.4},
    gap_seconds=300.0,
    time=datetime(2026, 3, 2, 3, 5, tzinfo=UTC),
    merchant="shop-7",
    country="FR",
    memo="gift card",
    category="travel",
    channel="online",
    new_merchant=True,
    new_country=True,
    fraud_share=0.0315,
    run_frauds=3.0,
    run_days=4.2,
    near_limit=3.6,
    limit=10_000.0,
    history=12,
    typical=Typical(hour=13.5, amount=35.0, merchant_month=400.0, fraud_share=0.004),
)


def told(group: str, **changes: Any) -> str:
    (tell,) = [g.tell for g in GROUPS if g.name == group]
    return tell(replace(FACTS, **changes))[2]


@pytest.mark.parametrize(
    ("group", "changes", "text"),
    [
        ("amount", {}, "amount 950.00 is 19 times the usual 50.00"),
        ("amount", {"amount": 75.0}, "amount 75.00 is 1.5 times the usual 50.00"),
        ("amount", {"history": 0}, "amount 950.00 in the account's first event"),
        ("amount", {"amount": 1.0}, "amount 1.00 is less than 0.1 times the usual 50.00"),
        ("amount", {"usual": 0.0, "amount": 12.0}, "amount 12.00 is 1,200 times the usual 0.00"),
        ("pace", {}, "4 in about an hour, usually 0.05; the one before 5 minutes earlier"),
        ("pace", {"history": 0}, "first event of the account"),
        ("time", {}, "at 03:05 UTC on a Monday"),
        ("merchant", {}, "first recent event at merchant shop-7"),
        ("merchant", {"new_merchant": False}, "at merchant shop-7"),
        ("merchant_labels", {}, "a run of 3 frauds at merchant shop-7, the last 4 days ago"),
        (
            "merchant_labels",
            {"run_frauds": 0.0, "run_days": 60.0},
            "3.1% of the events at merchant shop-7 with known outcome were frauds",
        ),
        ("merchant_traffic", {}, "merchant shop-7 had 1,234 events within about a month"),
        ("country", {}, "first recent event in FR"),
        ("country", {"new_country": False, "country": None}, "in an unknown country"),
        ("reporting_limit", {}, "4 amounts just below 10,000 within about a week"),
        ("reporting_limit", {"near_limit": 1.0}, "1 amount just below 10,000 within about a week"),
        ("reporting_limit", {"near_limit": 0.2}, "an amount just below 10,000 some weeks ago"),
        ("kind", {}, "category travel, channel online"),
        ("kind", {"category": None, "channel": None}, "category unknown, channel unknown"),
        ("memo", {}, "memo: 'gift card'"),
        ("memo", {"memo": None}, "no memo"),
        ("memo", {"memo": "long " * 50}, "memo: '" + "long " * 12 + "...'"),
        ("memo", {"memo": "Lum\u0456na"}, "memo: 'Lum\u0456na' (letters of several alphabets in one word)"),
        ("memo", {"memo": "Pay\u200bPal"}, "memo: 'Pay\\u200bPal' (an invisible character within a word)"),
        ("memo", {"memo": "\u202e<b>\x01\ud800"}, "memo: '\\u202e<b>\\x01\\ud800'"),
        ("sequence", {"history": 1}, "what the account did before, in its order (1 event)"),
    ],
)
def test_a_reason_reads_well(group: str, changes: dict[str, Any], text: str) -> None:
    assert told(group, **changes) == text


@pytest.mark.parametrize(
    ("month", "usually"), [(72_000.0, "100"), (1_440_000.0, "2,000"), (0.01, "less than 0.001"), (7.2, "0.01")]
)
def test_a_pace_is_written_without_powers_of_ten(month: float, usually: str) -> None:
    counts = {"account_count_hour": 0.0, "account_count_month": month}
    assert f"1 in about an hour, usually {usually};" in told("pace", counts=counts)


@pytest.mark.parametrize(
    ("seconds", "ago"),
    [(0.0, "0 seconds"), (1.0, "1 second"), (90.0, "2 minutes"), (3_600.0, "1 hour"), (2e6, "23 days")],
)
def test_a_gap_is_told_in_the_unit_that_fits(seconds: float, ago: str) -> None:
    assert told("pace", gap_seconds=seconds).endswith(f"the one before {ago} earlier")
