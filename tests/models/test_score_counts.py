"""Counts of scores: nothing is lost, and how events are cut into batches or partitions makes no difference."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.score_counts import BINS, EDGES, WIDTH, HourCounts, add_counts, count_scores, log_odds, probability

HOUR = 3_600_000
events = st.lists(
    st.tuples(
        st.integers(0, 5 * HOUR),
        st.one_of(st.floats(0, 1), st.just(float("nan"))),
        st.booleans(),
        st.booleans(),
    ),
    max_size=60,
)


def counted(some: list[tuple[int, float, bool, bool]]) -> dict[int, HourCounts]:
    times, scores, flagged, opened = zip(*some, strict=True) if some else ((), (), (), ())
    return count_scores(
        np.array(times, np.int64), np.array(scores, float), np.array(flagged, bool), np.array(opened, bool)
    )


def plain(counts: dict[int, HourCounts]) -> Any:
    return {hour: (c.events, c.flagged, c.opened, c.latest, c.bins.tolist()) for hour, c in counts.items()}


@given(events, st.integers(0, 60))
def test_two_batches_add_up_to_what_one_would_have_counted(some: list[Any], cut: int) -> None:
    together = counted(some)
    apart: dict[int, HourCounts] = {}
    add_counts(apart, counted(some[:cut]))
    add_counts(apart, counted(some[cut:]))
    assert plain(apart) == plain(together)


@given(events)
def test_every_event_with_a_score_is_counted_once_in_its_hour(some: list[Any]) -> None:
    counts = counted(some)
    scored = [event for event in some if event[1] == event[1]]
    assert sum(c.events for c in counts.values()) == len(scored)
    for hour, c in counts.items():
        own = [event for event in scored if event[0] // HOUR == hour]
        assert (c.events, c.bins.sum(), c.latest) == (len(own), len(own), max(event[0] for event in own))
        assert (c.flagged, c.opened) == (sum(e[2] for e in own), sum(e[3] for e in own))


@given(st.floats(1e-6, 1 - 1e-9))
def test_a_score_counts_in_the_bin_that_holds_its_log_odds(score: float) -> None:
    (c,) = counted([(0, score, False, False)]).values()
    (place,) = np.flatnonzero(c.bins)
    assert EDGES[place] - 1e-9 <= log_odds(np.array([score]))[0] <= EDGES[place] + WIDTH + 1e-9


def test_the_ends_of_the_scale_are_counted_too() -> None:
    (c,) = counted([(0, 0.0, False, False), (0, 1.0, True, True)]).values()
    assert (c.bins[0], c.bins[1:].sum()) == (1, 1)
    assert np.flatnonzero(c.bins)[1] > BINS - 20


def test_log_odds_and_probability_are_each_others_inverse() -> None:
    scores = np.array([1e-6, 0.1, 0.5, 0.999])
    assert np.allclose([probability(odds) for odds in log_odds(scores)], scores)
