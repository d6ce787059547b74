"""Whether a model may stay in use: pure decisions from what it says, before it takes over and afterwards.

Two things tell a model that misbehaves: scores that are no numbers, at any time, and far more flagged events than its
budget and the model before it would give, in its trial and in its first events.
"""

from dataclasses import dataclass

import numpy as np

from models.scoring import ScoredBatch, Trial

#: A new model may flag so many times what its budget or the model in use would, and some beside.
MOST_TIMES, MOST_BESIDE = 10.0, 20
#: For how many of its first events the share of flagged ones is watched.
PROBATION_EVENTS = 20_000
#: A share is remembered over about so many events, and says little below the lesser number.
TALLY_EVENTS, FEW_EVENTS = 200_000, 1_000

AGAIN = "promote it once more to use it all the same"


@dataclass(frozen=True, slots=True)
class Tally:
    """How many of a model's latest events it flagged. Old ones fade: at TALLY_EVENTS both counts are halved."""

    events: float = 0.0
    flagged: float = 0.0

    def plus(self, events: int, flagged: int) -> "Tally":
        fade = 0.5 if self.events >= TALLY_EVENTS else 1.0
        return Tally(self.events * fade + events, self.flagged * fade + flagged)

    @property
    def share(self) -> float:
        """0 where too few events are known to tell."""
        return self.flagged / self.events if self.events >= FEW_EVENTS else 0.0


@dataclass(frozen=True, slots=True)
class Probation:
    """The first events of a model in use. expected_share: of events, how many it may be expected to flag."""

    expected_share: float
    events: int = 0
    flagged: int = 0

    def plus(self, events: int, flagged: int) -> "Probation | None":
        """None once it is over."""
        total = Probation(self.expected_share, self.events + events, self.flagged + flagged)
        return total if total.events < PROBATION_EVENTS else None


def most_flagged(events: int, expected_share: float) -> float:
    """More than this is a jump."""
    return MOST_BESIDE + MOST_TIMES * expected_share * events


def no_numbers(scored: ScoredBatch) -> str | None:
    """Why a batch must not be committed, or None. A repeat of an event has no score, and needs none."""
    score = scored.score[scored.built.rows]
    bad = len(score) - int(np.isfinite(score).sum())
    return f"{bad} of {len(score)} scores in a batch are no numbers" if bad else None


def jump(probation: Probation, events: int, flagged: int) -> str | None:
    """Why a model must not stay in use after so many more events, or None."""
    total, among = probation.flagged + flagged, probation.events + events
    most = most_flagged(among, probation.expected_share)
    if total <= most:
        return None
    return f"it flagged {total} of its first {among} events, {most:.0f} at most are plausible; {AGAIN}"


def failed_trial(trial: Trial, in_use: Trial, alert_share: float | None) -> str | None:
    """Why the model must not be used, or None. in_use: what the present model says of the same events; alert_share: of
    the events, how many the model's budget flags."""
    if not np.isfinite(trial.score).all():
        return f"{int((~np.isfinite(trial.score)).sum())} of its {len(trial.score)} scores are no numbers"
    most = most_flagged(len(trial.score), max(alert_share or 0.0, in_use.flagged_share))
    flagged = trial.flagged_share * len(trial.score)
    if flagged > most:
        return (
            f"it flags {flagged:.0f} of the {len(trial.score)} latest events, {most:.0f} at most are plausible; {AGAIN}"
        )
    return None
