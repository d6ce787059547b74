"""The threshold at which alerts meet a budget per day: read off what was counted lately, and corrected by what was
alerted already. Alerts are those that were opened: events of one account fold into one.

1. *Rhythm*: the share of a day's candidates (events of the highest scores, about ten for each alert) in each hour,
   over the last week. Alerts are to follow it, so that a day's threshold hardly moves.
2. *Level*: how many candidates the latest hours had against the week. Scores that shift show here within an hour.
3. *Tail*: the model's scores of the last week say at which threshold as many events are flagged as wanted.
4. *Feedback*: today's alerts against the day's budget up to now make the wanted rate fall or rise exponentially, and
   what a day had too many or too few is made good over the next ones, at a bounded rate.

Everything is a function of counts (models/score_counts.py), which live are merged over all workers, and of event time.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.score_counts import (
    BINS,
    EDGES,
    MILLISECONDS_AN_HOUR,
    WIDTH,
    Counts,
    Floats,
    HourCounts,
    ScoreHistory,
    count_scores,
    log_odds,
    probability,
)
from models.thresholds import LEAST_THRESHOLD

#: Days of scores that thresholds are read off, and days that are remembered of alerts.
TAIL_DAYS, REMEMBERED_DAYS = 7, 28
#: Candidates for each alert of the budget, and at most this share of all events.
CANDIDATES_PER_ALERT, LARGEST_CANDIDATE_SHARE = 10.0, 0.2
#: A model with fewer candidates goes by its own threshold.
LEAST_CANDIDATES = 100
#: The level looks back over so many expected candidates, and trusts the week as if so many were seen beside.
LEVEL_CANDIDATES, LEVEL_PRIOR = 50.0, 10.0
#: Levels so far from 1 say that scores have moved as a whole: then the latest hours alone say what is a high one.
LARGEST_LEVEL, LATEST_HOURS = 4.0, 3
#: The wanted rate falls e-fold when a day is so many alerts ahead (times the root of the budget; or this share of it).
REACTION, LEAST_REACTION = 1.3, 0.01
#: Bounds of the wanted rate, in budgets.
SLOWEST, FASTEST = 0.05, 4.0
#: Of what is to be made good, a day takes this many roots of the budget at most; a tenth is forgiven every day.
CARRY, KEPT = 1.5, 0.9
#: Log-odds that a model's own threshold moves for an e-fold rate, while its tail is unknown.
OWN_TAIL = 0.5
#: Alerts a day that mean none at all.
LEAST_BUDGET = 1e-6
#: How strongly the share of flagged events that open an alert is believed to be 1, and a model's own threshold right.
PRIOR_ALERTS = 10.0
#: Where fewer events of the week lie beyond a threshold, it is read off an exponential tail.
SURE_EVENTS = 20
HOURS = 24
#: Of each hour's share, so much is the same for all: an hour without any events last week may have some.
EVEN_SHARE = 0.02


class AlertBudget:
    """The rule in event time, for one stream of events: `observe` what was scored, ask for the `threshold`.

    Ask at least every hour of event time, better every few minutes: a threshold that stays cannot react.
    """

    def __init__(self, alerts_per_day: float) -> None:
        self.alerts_per_day = alerts_per_day
        self.history = ScoreHistory()
        self._model, self._own = "", LEAST_THRESHOLD
        self._forgotten_until = 0

    def use_model(self, model: str, own_threshold: float) -> None:
        """From now on scores are this model's; own_threshold is what it was registered with."""
        self._model, self._own = model, own_threshold

    def observe(
        self,
        occurred_at: npt.NDArray[np.int64],
        scores: Floats,
        flagged: npt.NDArray[np.bool_],
        opened: npt.NDArray[np.bool_],
    ) -> None:
        """Each array [n]: epoch milliseconds; scores in 0..1 (NaN for duplicates); which events reached the threshold
        that was given; which of them opened an alert."""
        self.history.add(self._model, count_scores(occurred_at, scores, flagged, opened))

    def threshold(self, time: int) -> float:
        """For the events that come next. time: epoch milliseconds of event time."""
        oldest = time // MILLISECONDS_AN_HOUR - REMEMBERED_DAYS * HOURS
        if oldest >= self._forgotten_until + HOURS:
            self.history.forget_before(oldest)
            self._forgotten_until = oldest
        return budget_threshold(self.history, self._model, self._own, self.alerts_per_day, time)


@dataclass(frozen=True, slots=True)
class ModelHours:
    """One model's hours of the last days: hour int64[h] rising, tail int64[h]: candidates; bins int64[BINS] of all;
    lowest: the bin that candidates begin with."""

    hour: Counts
    events: Counts
    tail: Counts
    bins: Counts
    lowest: int


def budget_threshold(
    history: ScoreHistory, model: str, own_threshold: float, alerts_per_day: float, time: int
) -> float:
    """The score from which on the model's events alert, at a moment of event time (epoch milliseconds)."""
    if alerts_per_day < LEAST_BUDGET:
        return float(np.nextafter(1.0, 2.0))
    models = _recent_hours(history, alerts_per_day, time)
    rhythm = _rhythm(list(models.values()), time)
    opened = _opened_by_day(history)
    wanted = _wanted_rate(opened, history, rhythm, alerts_per_day, time)
    used = models.get(model)
    exposure = 0.0 if used is None else _exposure(rhythm, used.hour, time)
    if used is None or exposure <= 0 or used.tail.sum() < LEAST_CANDIDATES:
        so_far = 0 if used is None else sum(history.models[model][int(hour)].opened for hour in used.hour)
        excess = (so_far + PRIOR_ALERTS) / (alerts_per_day * exposure + PRIOR_ALERTS)
        moved = OWN_TAIL * math.log(excess * alerts_per_day / wanted)
        odds = float(log_odds(np.array([own_threshold]))[0]) + moved
    else:
        fold = _opened_share(history, time)
        level = _level(used, rhythm, exposure, time)
        if not 1 / LARGEST_LEVEL <= level <= LARGEST_LEVEL:
            used, level = _latest_hours(history, model, used, time), 1.0
            exposure = _exposure(rhythm, used.hour, time)
        odds = _odds_exceeded_by(used, wanted / (fold * level) * exposure)
    return max(probability(odds), LEAST_THRESHOLD)


def _recent_hours(history: ScoreHistory, alerts_per_day: float, time: int) -> dict[str, ModelHours]:
    """Of each model with events in the last days. Candidates are the same share of events under each."""
    stop = time // MILLISECONDS_AN_HOUR + 1
    begin = stop - TAIL_DAYS * HOURS
    kept: dict[str, tuple[list[int], list[HourCounts]]] = {}
    for model, hours in history.models.items():
        if recent := sorted(hour for hour in hours if begin <= hour < stop):
            kept[model] = recent, [hours[hour] for hour in recent]
    events = sum(counts.events for _, some in kept.values() for counts in some)
    if not events:
        return {}
    spanned = (stop - min(hours[0] for hours, _ in kept.values())) / HOURS
    share = min(CANDIDATES_PER_ALERT * alerts_per_day * spanned / events, LARGEST_CANDIDATE_SHARE)
    return {model: _model_hours(hours, counts, share) for model, (hours, counts) in kept.items()}


def _model_hours(hours: list[int], counts: list[HourCounts], share: float) -> ModelHours:
    by_hour = np.stack([one.bins for one in counts])
    bins = by_hour.sum(0)
    beyond = np.cumsum(bins[::-1])[::-1]
    lowest = min(int(np.searchsorted(-beyond, -share * bins.sum())), BINS - 1)
    if lowest and beyond[lowest] < share * bins.sum() / 2:
        lowest -= 1  # many events of like score: rather too many candidates than hardly any
    return ModelHours(
        np.array(hours), np.array([one.events for one in counts]), by_hour[:, lowest:].sum(1), bins, lowest
    )


def _latest_hours(history: ScoreHistory, model: str, used: ModelHours, time: int) -> ModelHours:
    """The same model's hours, as if the latest ones were all."""
    since = min(time // MILLISECONDS_AN_HOUR + 1 - LATEST_HOURS, int(used.hour[-1]))
    hours = [hour for hour in used.hour.tolist() if hour >= since]
    share = float(used.tail.sum() / used.events.sum())
    return _model_hours(hours, [history.models[model][hour] for hour in hours], share)


def _rhythm(models: list[ModelHours], time: int) -> Floats:
    """float64[24] with sum 1: the mean share of a day's candidates in each hour, over the whole days of the last week.
    Each day counts the same, so that a day on which scores rose does not say when."""
    even = np.full(HOURS, 1 / HOURS)
    if not models:
        return even
    hour = np.concatenate([one.hour for one in models])
    weight = np.concatenate([one.tail + HOURS * one.events / max(one.events.sum(), 1) for one in models])
    first, today = int(hour.min()) // HOURS + 1, time // MILLISECONDS_AN_HOUR // HOURS
    whole = (hour // HOURS >= first) & (hour // HOURS < today)
    if not whole.any():
        return even
    days = np.zeros((today - first, HOURS))
    np.add.at(days, (hour[whole] // HOURS - first, hour[whole] % HOURS), weight[whole])
    totals = days.sum(1)
    mean = (days[totals > 0] / totals[totals > 0, None]).mean(0)
    rhythm: Floats = (1 - EVEN_SHARE) * mean + EVEN_SHARE * even
    return rhythm


def _exposure(rhythm: Floats, hours: Counts, time: int) -> float:
    """Days' worth of events from the first of these hours up to the moment."""
    return _days_at(rhythm, time) - _days_at(rhythm, int(hours[0]) * MILLISECONDS_AN_HOUR)


def _days_at(rhythm: Floats, time: int) -> float:
    """Epoch days at a moment, of which the last is cut where its share of events is over."""
    day, within = divmod(time, HOURS * MILLISECONDS_AN_HOUR)
    hour, part = divmod(within, MILLISECONDS_AN_HOUR)
    return day + float(rhythm[:hour].sum() + rhythm[hour] * part / MILLISECONDS_AN_HOUR)


def _opened_by_day(history: ScoreHistory) -> dict[int, int]:
    """Epoch day -> alerts opened, under whatever model."""
    opened: dict[int, int] = {}
    for hour, counts in history.hours():
        opened[hour // HOURS] = opened.get(hour // HOURS, 0) + counts.opened
    return opened


def _wanted_rate(
    opened: dict[int, int], history: ScoreHistory, rhythm: Floats, alerts_per_day: float, time: int
) -> float:
    """Alerts per day to go for from this moment on."""
    today = time // (HOURS * MILLISECONDS_AN_HOUR)
    first = min(opened, default=today)
    carry = 0.0
    for day in range(max(first + 1, today - REMEMBERED_DAYS), today):
        carry = float(np.clip(KEPT * (carry + opened.get(day, 0) - alerts_per_day), -alerts_per_day, alerts_per_day))
    most = CARRY * math.sqrt(alerts_per_day)
    target = max(alerts_per_day - float(np.clip(carry, -most, most)), SLOWEST * alerts_per_day)
    begin = today * HOURS * MILLISECONDS_AN_HOUR
    if first >= today:  # the first day began with the first event
        begin = min((hour for hour, _ in history.hours()), default=today * HOURS) * MILLISECONDS_AN_HOUR
    due = target * max(_days_at(rhythm, time) - _days_at(rhythm, begin), 0.0)
    ahead = opened.get(today, 0) - due
    reaction = max(REACTION * math.sqrt(alerts_per_day), LEAST_REACTION * alerts_per_day)
    factor = min(math.exp(min(-ahead / reaction, 10.0)), FASTEST)
    return max(target * factor, SLOWEST * alerts_per_day)


def _opened_share(history: ScoreHistory, time: int) -> float:
    """Of the last days' flagged events, how many opened an alert."""
    begin = time // MILLISECONDS_AN_HOUR - TAIL_DAYS * HOURS
    flagged = opened = PRIOR_ALERTS
    for hour, counts in history.hours():
        if hour >= begin:
            flagged += counts.flagged
            opened += counts.opened
    return min(opened / flagged, 1.0)


def _level(used: ModelHours, rhythm: Floats, exposure: float, time: int) -> float:
    """Candidates of the latest hours over those that the model's days let expect."""
    per_day = float(used.tail.sum()) / exposure
    found = expected = 0.0
    now, stop = time // MILLISECONDS_AN_HOUR, _days_at(rhythm, time)
    tail = dict(zip(used.hour.tolist(), used.tail.tolist(), strict=True))
    for hour in range(now, max(now - HOURS, int(used.hour[0])) - 1, -1):
        found += tail.get(hour, 0)
        expected = per_day * (stop - _days_at(rhythm, hour * MILLISECONDS_AN_HOUR))
        if expected >= LEVEL_CANDIDATES:
            break
    return (found + LEVEL_PRIOR) / (expected + LEVEL_PRIOR)


def _odds_exceeded_by(used: ModelHours, exceedances: float) -> float:
    """The log-odds that so many of the model's events reached: interpolated within a bin, beyond the last events an
    exponential tail with the mean excess of the candidates."""
    beyond = np.append(np.cumsum(used.bins[::-1])[::-1], 0).astype(np.float64)
    if exceedances >= beyond[0]:
        return float(EDGES[0])
    sure = max(exceedances, min(float(SURE_EVENTS), float(beyond[used.lowest])))
    place = int(np.searchsorted(-beyond, -sure, side="right")) - 1
    inside = beyond[place] - beyond[place + 1]
    odds = float(EDGES[place] + WIDTH * (beyond[place] - sure) / inside)
    if exceedances < sure:
        excess = float((EDGES[used.lowest :] + WIDTH / 2 - EDGES[used.lowest]) @ used.bins[used.lowest :])
        odds += excess / float(beyond[used.lowest]) * math.log(sure / max(exceedances, 1e-9))
    return odds
