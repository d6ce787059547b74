"""Options of `headgate simulate`: what they mean, and one clear refusal for each that cannot be."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ops.simulate.cards import DEFAULT_START, BadSimulation
from ops.simulate.labels import LabelDelay
from ops.simulate.options import (
    Options,
    check_options,
    history_config,
    history_label_delay,
    live_config,
    parse_delay,
    parse_time,
)
from ops.simulate.scenarios import DAY, SCENARIO_NAMES

NOW = 1_790_000_000_000


@pytest.mark.parametrize(
    ("text", "delay"),
    [
        ("7d", LabelDelay(7 * DAY, 7 * DAY)),
        ("30s", LabelDelay(30_000, 30_000)),
        ("1.5h", LabelDelay(5_400_000, 5_400_000)),
        ("0s", LabelDelay(0, 0)),
        ("5s-20s", LabelDelay(5_000, 20_000)),
        ("10m - 2d", LabelDelay(600_000, 2 * DAY)),
    ],
)
def test_a_delay_is_a_span_or_a_range_of_spans(text: str, delay: LabelDelay) -> None:
    assert parse_delay(text) == delay


@pytest.mark.parametrize("text", ["", "7", "d", "7w", "-5s", "5s-", "1s-2s-3s", "1e3s", "7 d"])
def test_another_delay_is_refused_with_examples(text: str) -> None:
    with pytest.raises(BadSimulation, match="--label-delay must be like 7d, 12h, 10m, 30s or 5s-20s, not "):
        parse_delay(text)


def test_a_delay_that_runs_backwards_is_refused() -> None:
    with pytest.raises(BadSimulation, match="a label's delay must be a span of time"):
        parse_delay("20s-5s")


@pytest.mark.parametrize(
    "text", ["2026-01-01", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", "2026-01-01 00:00"]
)
def test_a_start_is_a_date_or_a_time_in_utc_unless_it_says_otherwise(text: str) -> None:
    assert parse_time(text) == DEFAULT_START


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01"])
def test_another_start_is_refused_with_examples(text: str) -> None:
    with pytest.raises(BadSimulation, match="--start must be like 2026-01-31 or 2026-01-31T12:00:00Z, not "):
        parse_time(text)


def test_a_file_starts_at_a_fixed_time_so_that_the_seed_decides_everything() -> None:
    first, later = (history_config(Options(output=Path("x.csv")), now) for now in (NOW, NOW + DAY))

    assert first == later
    assert (first.start, first.end) == (DEFAULT_START, DEFAULT_START + 30 * DAY)


def test_a_history_into_kafka_ends_now_and_its_ids_carry_its_start() -> None:
    config = history_config(Options(kafka=True, days=2), NOW)

    assert (config.start, config.end) == (NOW - 2 * DAY, NOW)
    assert config.run == f"history{NOW - 2 * DAY}"


def test_everything_given_reaches_the_history() -> None:
    options = Options(
        output=Path("x.csv"),
        accounts=50,
        merchants=20,
        days=0.5,
        start="2026-01-02",
        events=7,
        fraud_share=0.2,
        scenarios="structuring, card_testing",
        seed=9,
        label_delay="1d-2d",
        labels_for="frauds",
    )
    config = history_config(options, NOW)

    assert (config.accounts, config.merchants, config.events, config.seed) == (50, 20, 7, 9)
    assert (config.start, config.end) == (DEFAULT_START + DAY, DEFAULT_START + DAY + DAY // 2)
    assert (config.fraud_share, config.scenarios) == (0.2, ("structuring", "card_testing"))
    assert history_label_delay(options) == LabelDelay(DAY, 2 * DAY)
    assert options.legitimate_share == 0.0


def test_everything_given_reaches_live_traffic() -> None:
    options = Options(kafka=True, accounts=50, merchants=20, rate=3.0, fraud_share=0.2, scenarios="structuring", seed=9)
    config = live_config(options, NOW)

    assert (config.start, config.accounts, config.merchants, config.rate) == (NOW, 50, 20, 3.0)
    assert (config.fraud_share, config.scenarios, config.seed) == (0.2, ("structuring",), 9)
    assert config.label_delay == LabelDelay(5_000, 20_000)
    assert config.legitimate_share == 1.0
    assert live_config(replace(options, label_delay="1s"), NOW).label_delay == LabelDelay(1_000, 1_000)


def test_labels_come_after_a_week_unless_told_otherwise() -> None:
    assert history_label_delay(Options()) == LabelDelay(7 * DAY, 7 * DAY)


def test_every_scenario_is_simulated_unless_told_otherwise() -> None:
    assert history_config(Options(), NOW).scenarios == SCENARIO_NAMES


LIVE = {"kafka": True, "rate": 10.0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "say where to: --output FILE or --kafka"),
        ({"output": "x.csv", "kafka": True}, "--output and --kafka exclude each other"),
        ({"kafka": True, "labels": "l.csv"}, "--labels is for --output; with --kafka the labels go to the topic"),
        ({"output": "x.csv", "rate": 5.0}, "--rate needs --kafka"),
        ({"output": "x.txt"}, r"x.txt must end in .csv or .parquet"),
        ({"output": "x.csv", "labels": "l.txt"}, r"l.txt must end in .csv or .parquet"),
        ({"output": "x.csv", "labels": "x.csv"}, r"--output and --labels are both .*x.csv"),
        ({"output": "x.csv", "label_delay": "7d"}, "--label-delay and --labels-for need --labels"),
        ({"output": "x.csv", "labels_for": "frauds"}, "--label-delay and --labels-for need --labels"),
        ({"output": "x.csv", "for_seconds": 5.0}, "--for needs --rate"),
        ({"output": "x.csv", "scenarios": " , "}, "--scenarios names none; there are large_amounts"),
        (LIVE | {"for_seconds": 0.0}, "--for must be above 0 seconds, not 0"),
        (LIVE | {"for_seconds": float("nan")}, "--for must be above 0 seconds"),
        (LIVE | {"days": 3.0}, "--days is for a history"),
        (LIVE | {"start": "2026-01-01"}, "--start is for a history"),
        (LIVE | {"events": 5}, "--events is for a history"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_together_are_refused(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    paths = {name: tmp_path / given[name] for name in ("output", "labels") if name in given}
    with pytest.raises(BadSimulation, match=message):
        check_options(Options(**(given | paths)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"days": 0.0}, "--days must be above 0, not 0"),
        ({"days": float("inf")}, "--days must be above 0, not inf"),
        ({"kafka": True, "start": "2026-01-01", "days": 10_000}, "--start and --days reach into the future"),
    ],
    ids=str,
)
def test_a_history_that_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadSimulation, match=message):
        history_config(Options(**given), NOW)


@pytest.mark.parametrize(
    "given",
    [
        {"output": "x.parquet"},
        {"output": "x.csv", "labels": "l.parquet", "label_delay": "1d", "labels_for": "all", "days": 3.0, "events": 5},
        {"kafka": True, "days": 3.0, "start": "2026-01-01", "label_delay": "1d"},
        LIVE,
        LIVE | {"for_seconds": 3.0, "labels_for": "frauds", "label_delay": "1s-2s"},
    ],
    ids=str,
)
def test_options_that_fit_together_pass(tmp_path: Path, given: dict[str, Any]) -> None:
    paths = {name: tmp_path / given[name] for name in ("output", "labels") if name in given}
    check_options(Options(**(given | paths)))
