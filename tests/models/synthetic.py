"""Small synthetic histories for tests: accounts with habits, and four kinds of fraud that differ in what gives them
away (the amount alone, the amount against the account's usual, the order of events, amounts just below a limit)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.artifact import TrainedDetector
from models.events import Events
from models.labels import LabelledHistory, LabelRelease, version_batches
from models.scoring import Scorer

BEGIN = 1_760_000_000_000
DAY = 86_400_000
REPORTING_LIMIT = 10_000.0


@dataclass(frozen=True, slots=True)
class History:
    events: Events
    labels: npt.NDArray[np.int8]

    @property
    def labelled(self) -> LabelledHistory:
        return LabelledHistory.matured(self.events, self.labels)


def scored_with_labels(model: TrainedDetector, past: LabelledHistory) -> npt.NDArray[np.float64]:
    """float64[n], NaN for repeats: what a worker would have said, with labels as they came."""
    scorer, release = Scorer(model), LabelRelease(past)
    scores = np.full(len(past), np.nan)
    for rows in version_batches(past.events.occurred_at, 500):
        scorer.use_labels(release.knowledge(int(past.events.occurred_at[rows[0]])))
        scored = scorer.score(past.events.take(rows))
        release.note(rows[scored.built.rows], scored.built.unexplained)
        scores[rows] = scored.score
    return scores


def history(
    count: int, *, accounts: int = 300, merchants: int = 200, days: float = 30.0, seed: int = 0, frauds: float = 0.01
) -> History:
    """About `count` events in the order of time; `frauds` is the share of accounts' events where a fraud begins."""
    draw = np.random.default_rng(seed)
    usual = np.exp(draw.normal(3.5, 0.8, accounts))
    home = draw.integers(0, merchants, (accounts, 8))
    account = draw.integers(0, accounts, count)
    time = draw.integers(BEGIN, BEGIN + int(days * DAY), count)
    amount = usual[account] * np.exp(draw.normal(0, 0.4, count))
    merchant = home[account, draw.integers(0, 8, count)]
    label = np.zeros(count, np.int8)
    kind = np.where(draw.random(count) < frauds, draw.integers(0, 4, count), -1)

    large = kind == 0
    amount[large] = draw.uniform(1_500, 4_000, large.sum())
    multiplied = kind == 1
    amount[multiplied] *= draw.uniform(4, 9, multiplied.sum())
    tested, structured = kind == 2, kind == 3
    label[large | multiplied | tested] = 1
    columns = [account, time, amount, merchant, label]
    for minutes in (2, 4, 6):  # tiny payments before an ordinary one: only the order tells
        columns = _with(columns, account[tested], time[tested] - minutes * 60_000, 1.0 + 0 * amount[tested], draw, 0)
    for hours in range(0, 24, 6):
        below = draw.uniform(0.85, 0.99, structured.sum()) * REPORTING_LIMIT
        columns = _with(columns, account[structured], time[structured] + hours * 3_600_000 + 1, below, draw, 1)
    account, time, amount, merchant, label = columns
    order = np.argsort(time, kind="stable")
    country = np.where(draw.random(len(order)) < 0.97, "DE", "FR")
    return History(
        Events.from_columns(
            {
                "event_id": [f"e{seed}-{row}" for row in range(len(order))],
                "occurred_at": time[order],
                "account_id": [f"a{number}" for number in account[order]],
                "merchant_id": [f"m{number}" for number in merchant[order]],
                "amount": np.round(amount[order], 2),
                "category": [f"c{number % 12}" for number in merchant[order]],
                "channel": ["online" if number % 3 else "shop" for number in merchant[order]],
                "country": country.tolist(),
                "memo": [f"invoice {number}" if number % 5 == 0 else None for number in merchant[order]],
            }
        ),
        label[order],
    )


def _with(
    columns: list[npt.NDArray[np.generic]],
    account: npt.NDArray[np.int64],
    time: npt.NDArray[np.int64],
    amount: npt.NDArray[np.float64],
    draw: np.random.Generator,
    label: int,
) -> list[npt.NDArray[np.generic]]:
    merchant = draw.integers(0, int(columns[3].max()) + 1, len(account))
    added = (account, time, amount, merchant, np.full(len(account), label, np.int8))
    return [np.concatenate([old, new]) for old, new in zip(columns, added, strict=True)]
