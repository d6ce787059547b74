"""The measuring of steps: what is timed, not how long it takes."""

from itertools import count

import torch

from ops.jobs.step_time import step_seconds
from tests.models.logs import untrained


def test_each_detector_is_timed_once_a_round_at_each_size_and_the_threads_are_as_before() -> None:
    ticks = count()
    before = torch.get_num_threads()
    models = [untrained(hidden=8), untrained(hidden=16)]
    found = step_seconds(models, sizes=(4, 16), accounts=40, rounds=3, clock=lambda: float(next(ticks)))
    assert found == [{4: 1.0, 16: 1.0}, {4: 1.0, 16: 1.0}]
    assert next(ticks) == 2 * 2 * 2 * (1 + 3)  # begin and end, of two detectors, at two sizes
    assert torch.get_num_threads() == before


def test_the_median_of_the_rounds_counts_and_the_first_only_warms_up() -> None:
    durations = iter([100.0, 1.0, 50.0, 2.0])
    readings = iter([reading for duration in durations for reading in (0.0, duration)])
    found = step_seconds([untrained()], sizes=(4,), accounts=10, rounds=3, clock=lambda: next(readings))
    assert found == [{4: 2.0}]
