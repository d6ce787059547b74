"""Options of `headgate simulate shoppers`: what they mean, and one clear refusal for each that cannot be."""

from pathlib import Path
from typing import Any

import pytest

from ops.simulate.cards import DEFAULT_START, BadSimulation
from ops.simulate.scenarios import DAY
from ops.simulate.shoppers.options import ShopOptions, check_options, history_plan, live_config

NOW = 1_790_000_000_000
LIVE = {"kafka": True, "rate": 10.0}


def test_a_file_starts_at_a_fixed_time_so_that_the_seed_decides_everything() -> None:
    first, later = (history_plan(ShopOptions(output=Path("x.csv")), now) for now in (NOW, NOW + DAY))

    assert first == later
    assert (first.config.start, first.end) == (DEFAULT_START, DEFAULT_START + 30 * DAY)


def test_a_history_into_kafka_ends_now_and_its_ids_carry_its_start() -> None:
    plan = history_plan(ShopOptions(kafka=True, days=2), NOW)

    assert (plan.config.start, plan.end) == (NOW - 2 * DAY, NOW)
    assert plan.config.run == f"history{NOW - 2 * DAY}"


def test_everything_given_reaches_the_shoppers() -> None:
    history = history_plan(ShopOptions(output=Path("x.csv"), users=50, days=0.5, start="2026-01-02", seed=9), NOW)
    assert (history.config.users, history.config.seed) == (50, 9)
    assert (history.config.start, history.end) == (DEFAULT_START + DAY, DEFAULT_START + DAY + DAY // 2)
    assert history.config.pace == 1.0

    live = live_config(ShopOptions(kafka=True, users=50, rate=3.0, seed=9), NOW)
    assert (live.start, live.users, live.rate, live.seed, live.run) == (NOW, 50, 3.0, 9, f"live{NOW}")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "say where to: --output FILE or --kafka"),
        ({"output": "x.csv", "kafka": True}, "--output and --kafka exclude each other"),
        ({"kafka": True, "items_output": "i.csv"}, "--items-output is for --output; with --kafka the items go to"),
        ({"output": "x.csv", "rate": 5.0}, "--rate needs --kafka"),
        ({"output": "x.txt"}, r"x.txt must end in .csv or .parquet"),
        ({"output": "x.csv", "items_output": "i.txt"}, r"i.txt must end in .csv or .parquet"),
        ({"output": "x.csv", "items_output": "x.csv"}, r"--output and --items-output are both .*x.csv"),
        ({"output": "x.csv", "for_seconds": 5.0}, "--for needs --rate"),
        ({"output": "x.csv", "items": 0}, "items must be between 1 and 100000, not 0"),
        (LIVE | {"for_seconds": 0.0}, "--for must be above 0 seconds, not 0"),
        (LIVE | {"days": 3.0}, "--days is for a history"),
        (LIVE | {"start": "2026-01-01"}, "--start is for a history"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_together_are_refused(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    paths = {name: tmp_path / given[name] for name in ("output", "items_output") if name in given}
    with pytest.raises(BadSimulation, match=message):
        check_options(ShopOptions(**(given | paths)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"days": 0.0}, "--days must be above 0, not 0"),
        ({"days": float("inf")}, "--days must be above 0, not inf"),
        ({"users": 0}, "users must be between 1 and"),
        ({"seed": -1}, "the seed must not be negative"),
        ({"kafka": True, "start": "2026-01-01", "days": 10_000}, "--start and --days reach into the future"),
    ],
    ids=str,
)
def test_a_history_that_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadSimulation, match=message):
        history_plan(ShopOptions(**given), NOW)


@pytest.mark.parametrize(
    "given",
    [
        {"output": "x.parquet"},
        {"output": "x.csv", "items_output": "i.parquet", "days": 3.0, "start": "2026-01-01"},
        {"kafka": True, "days": 3.0},
        LIVE,
        LIVE | {"for_seconds": 3.0, "slates": False},
    ],
    ids=str,
)
def test_options_that_fit_together_pass(tmp_path: Path, given: dict[str, Any]) -> None:
    paths = {name: tmp_path / given[name] for name in ("output", "items_output") if name in given}
    check_options(ShopOptions(**(given | paths)))
