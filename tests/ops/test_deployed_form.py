"""Which form of a detector is deployed: a decision from figures alone."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.jobs.deployed_form import BATCH_SECONDS, LARGEST_BATCH, REST_SECONDS, Form, choose_form

MICROSECOND = 1e-6


def form(name: str, precision: float, microseconds: float, *, passed: bool = True) -> Form:
    return Form(name, precision, passed, {size: size * microseconds * MICROSECOND for size in (256, 1024, 8192)})


LARGE = form("large", 0.90, 60.0)
SMALL = form("small", 0.89, 3.0)


def test_the_most_accurate_form_stays_where_it_is_quick_enough() -> None:
    choice = choose_form([LARGE, SMALL], budget_seconds=0.5, events_per_second=1_000)
    assert (choice.form, choice.keeps_budget) == (LARGE, True)
    assert choice.reason.startswith(
        "large is the most accurate form that keeps 500 ms a batch at 1,000 events a second"
    )


def test_a_smaller_form_takes_over_where_the_large_one_falls_behind() -> None:
    choice = choose_form([LARGE, SMALL], budget_seconds=0.5, events_per_second=20_000)
    assert (choice.form, choice.keeps_budget) == (SMALL, True)
    assert "those of large ever longer" in choice.reason


def test_a_smaller_form_takes_over_where_the_large_one_is_too_slow_for_the_budget() -> None:
    choice = choose_form([LARGE, SMALL], budget_seconds=0.01, events_per_second=1_000)
    assert choice.form == SMALL
    assert "ms, those of large" in choice.reason


def test_what_did_not_pass_the_gate_is_not_chosen_however_quick() -> None:
    refused = form("refused", 0.95, 1.0, passed=False)
    assert choose_form([LARGE, refused], budget_seconds=0.5, events_per_second=20_000).form == LARGE


def test_where_no_form_keeps_the_budget_the_fastest_is_named_and_the_failure_told() -> None:
    choice = choose_form([LARGE, SMALL], budget_seconds=0.5, events_per_second=500_000)
    assert (choice.form, choice.keeps_budget) == (SMALL, False)
    assert choice.reason.startswith("no form keeps 500 ms a batch at 500,000 events a second; small is the fastest")


def test_of_equally_accurate_forms_the_faster_one_is_chosen() -> None:
    twin = form("twin", SMALL.average_precision, 2.0)
    assert choose_form([SMALL, twin], budget_seconds=0.5, events_per_second=1_000).form == twin


def test_batches_settle_where_as_many_events_come_as_one_holds() -> None:
    # So few come that the step takes as long as that of the smallest batch measured: what takes the same for any
    # batch, divided by the share of the time that the events themselves leave.
    fixed = BATCH_SECONDS + 256 * 10 * MICROSECOND
    rate = 20_000.0
    assert form("any", 0.9, 10.0).settled_seconds(rate) == pytest.approx(fixed / (1 - rate * REST_SECONDS), rel=0.01)
    too_many = 1.01 / (10 * MICROSECOND + REST_SECONDS)
    assert form("any", 0.9, 10.0).settled_seconds(too_many) is None


@st.composite
def forms(draw: st.DrawFn) -> list[Form]:
    figures: Any = st.tuples(st.floats(0, 1), st.floats(0.1, 500), st.booleans())
    found = [form(f"form {n}", *each[:2], passed=each[2]) for n, each in enumerate(draw(st.lists(figures, max_size=5)))]
    return [form("champion", draw(st.floats(0, 1)), draw(st.floats(0.1, 500))), *found]


@given(forms(), st.floats(1e-3, 60), st.floats(1e-3, 1e6))
def test_what_is_chosen_passed_and_nothing_that_keeps_the_budget_is_more_accurate(
    offered: list[Form], budget: float, rate: float
) -> None:
    def keeps(one: Form) -> bool:
        settled = one.settled_seconds(rate)
        return one.passed and settled is not None and settled <= budget

    choice = choose_form(offered, budget, rate)
    assert choice.form.passed
    assert choice.keeps_budget == keeps(choice.form) == any(map(keeps, offered))
    if choice.keeps_budget:
        assert choice.form.average_precision == max(one.average_precision for one in offered if keeps(one))


@given(st.floats(0.1, 500), st.floats(1e-3, 1e6), st.floats(1, 10))
def test_more_events_never_make_a_batch_shorter(microseconds: float, rate: float, times: float) -> None:
    one = form("any", 0.5, microseconds)
    calm, busy = one.settled_seconds(rate), one.settled_seconds(rate * times)
    assert busy is None or (calm is not None and calm <= busy)
    assert busy is None or rate * times * busy <= LARGEST_BATCH
