"""Which form of a detector a worker is to run: of those that pass the gate and keep the latency budget at the expected
rate, the most accurate. Pure: it measures nothing and knows no model.

A worker takes what has come while it worked on the batch before. So batches settle at the size n for which n events
come in the time that a batch of n takes; where they would grow past the largest a worker makes, it cannot keep up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: What else an event costs a worker beside the network's step: fetching, decoding, features, encoding, COPY
#: (docs/performance.md: 16.4 microseconds, 2.7 of them the network's).
REST_SECONDS = 13.7e-6
#: What a batch costs however few its events are: COMMIT, threads that wake each other.
BATCH_SECONDS = 2e-3
LARGEST_BATCH = 8_192


@dataclass(frozen=True, slots=True)
class Form:
    """name: what it is called in the reason; passed: the gate; step_seconds: of a batch, by its events."""

    name: str
    average_precision: float
    passed: bool
    step_seconds: Mapping[int, float]

    def batch_seconds(self, events: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Between the sizes measured in proportion; a smaller batch than the smallest takes its step as long."""
        sizes = sorted(self.step_seconds)
        step = np.interp(events, sizes, [self.step_seconds[size] for size in sizes])
        return step + BATCH_SECONDS + REST_SECONDS * events

    def settled_seconds(self, events_per_second: float) -> float | None:
        """How long batches take in the long run; None where the worker falls behind."""
        events = np.arange(1, LARGEST_BATCH + 1)
        seconds = self.batch_seconds(events)
        keeps_up = np.flatnonzero(events_per_second * seconds <= events)
        return float(seconds[keeps_up[0]]) if len(keeps_up) else None

    @property
    def pace(self) -> float:
        """Seconds of the largest batch."""
        return float(self.batch_seconds(np.array([LARGEST_BATCH]))[0])


@dataclass(frozen=True, slots=True)
class Choice:
    """keeps_budget: whether what was chosen does."""

    form: Form
    keeps_budget: bool
    reason: str


def choose_form(forms: Sequence[Form], budget_seconds: float, events_per_second: float) -> Choice:
    """Of equally accurate forms the faster one; where none keeps the budget, the fastest that passes. At least one
    form must have passed: the champion, against which the others are judged, has."""
    passing = [form for form in forms if form.passed]
    settled = {form.name: form.settled_seconds(events_per_second) for form in passing}
    demand = f"{budget_seconds * 1000:g} ms a batch at {events_per_second:,.0f} events a second"

    keeping = [form for form in passing if _within(settled[form.name], budget_seconds)]
    if not keeping:
        fastest = min(passing, key=lambda form: form.pace)
        return Choice(fastest, False, f"no form keeps {demand}; {fastest.name} is the fastest that passes the gate")
    best = min(keeping, key=lambda form: (-form.average_precision, form.pace))
    more_accurate = [form for form in passing if form.average_precision > best.average_precision]
    reason = f"{best.name} is the most accurate form that keeps {demand}: its batches take {_told(settled[best.name])}"
    if more_accurate:
        others = ", ".join(f"those of {form.name} {_told(settled[form.name])}" for form in more_accurate)
        reason += f", {others}"
    return Choice(best, True, reason)


def _within(seconds: float | None, budget: float) -> bool:
    return seconds is not None and seconds <= budget


def _told(seconds: float | None) -> str:
    return "ever longer" if seconds is None else f"{seconds * 1000:.1f} ms"
