"""Stored feedback as sequences that a policy learns from: who did what, what he was shown in between, what it earned.

Users' engagements are cut into windows that start from a new user's state, so that a young state is familiar. A slate
belongs to the window of the engagement that caused it. Nothing here knows where a history comes from.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from models.engagements import DISLIKE, IMPRESSION, SKIP, Engagements
from models.experience import Experience
from models.item_table import ItemTable
from models.logged_slates import LoggedSlates

Rows = npt.NDArray[np.int64]


class PolicyTrainingRefused(ValueError):
    """This history cannot teach a policy; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class PolicyHistory:
    """engagements in the order of time; item int32[n]: the catalogue row of each one's item, -1 for unknown; slates in
    the order of time; cause int64[m]: the row of the engagement that each answers; items: the catalogue."""

    engagements: Engagements
    item: npt.NDArray[np.int32]
    slates: LoggedSlates
    cause: Rows
    items: ItemTable


@dataclass(frozen=True, slots=True)
class Windows:
    """w windows over columns that are sorted by user, then time. Window k has the engagements start[k] to stop[k] and
    the slates first[k] to last[k] (both without the end)."""

    columns: "SortedColumns"
    start: Rows
    stop: Rows
    first: Rows
    last: Rows

    def __len__(self) -> int:
        return len(self.start)

    @property
    def slates(self) -> int:
        return int((self.last - self.first).sum())

    def experience(self, rows: Rows) -> Experience:
        """Some windows, padded."""
        told, shown = _padded(self.start[rows], self.stop[rows]), _padded(self.first[rows], self.last[rows])
        columns, slates = self.columns, self.columns.slates
        item, action, value, gap, predicted = (
            _taken(column, told, empty)
            for column, empty in (
                (columns.item, -1),
                (columns.action, -1),
                (columns.value, np.nan),
                (columns.gap, np.nan),
                (columns.predicted, False),
            )
        )
        seen = np.where(shown >= 0, columns.position[shown] + 1 - self.start[rows][:, None], -1)
        return Experience(
            item_BT=torch.from_numpy(item),
            action_BT=torch.from_numpy(action),
            value_BT=torch.from_numpy(value),
            gap_BT=torch.from_numpy(gap),
            predicted_BT=torch.from_numpy(predicted),
            seen_BD=torch.from_numpy(seen),
            candidates_BDC=torch.from_numpy(_taken(slates.candidates, shown, -1).astype(np.int64)),
            log_weights_BDC=torch.from_numpy(_taken(slates.log_weights, shown, -np.inf)),
            picks_BDK=torch.from_numpy(_taken(slates.picks, shown, -1).astype(np.int64)),
            reward_BDK=torch.from_numpy(_taken(slates.reward, shown, 0.0).astype(np.float32)),
            continues_B=torch.ones(len(rows), dtype=torch.bool),
        )


@dataclass(frozen=True, slots=True)
class SortedColumns:
    """A history sorted by user, then time. Engagements: user, occurred_at, item, action int64, value and gap float32,
    predicted bool. Slates: slates, and position int64[m]: the place of each one's cause among the engagements."""

    user: Rows
    occurred_at: Rows
    item: Rows
    action: Rows
    value: npt.NDArray[np.float32]
    gap: npt.NDArray[np.float32]
    predicted: npt.NDArray[np.bool_]
    slates: LoggedSlates
    position: Rows


def check_history(history: PolicyHistory) -> None:
    """Raises PolicyTrainingRefused where the columns cannot belong together."""
    engagements, slates = history.engagements, history.slates
    if (np.diff(engagements.occurred_at) < 0).any():
        raise PolicyTrainingRefused("engagements must be in the order of their time")
    if len(history.item) != len(engagements) or len(history.cause) != len(slates):
        raise PolicyTrainingRefused("not every engagement has an item row, or not every slate a cause")
    items = len(history.items)
    if len(history.items.bucket_A) != items:
        raise PolicyTrainingRefused(f"{items} items have content and {len(history.items.bucket_A)} a bucket")
    for name, rows, count in (
        ("an engagement's item", history.item, items),
        ("a slate's candidate", slates.candidates, items),
        ("a slate's pick", slates.picks, slates.candidates.shape[1]),
    ):
        if rows.size and not (rows.min() >= -1 and rows.max() < count):
            raise PolicyTrainingRefused(f"{name} is none of {count}")
    if len(slates) and not (history.cause.min() >= 0 and history.cause.max() < len(engagements)):
        raise PolicyTrainingRefused(f"a slate answers none of the {len(engagements)} engagements")
    if not np.isfinite(slates.reward).all():
        raise PolicyTrainingRefused("a reward is no finite number")


def sort_history(history: PolicyHistory) -> SortedColumns:
    """Slates whose rewards are not complete are left out."""
    engagements = history.engagements
    numbers: dict[str, int] = {}
    users = (numbers.setdefault(user_id, len(numbers)) for user_id in engagements.user_id)
    user = np.fromiter(users, np.int64, len(engagements))
    order = np.argsort(user, kind="stable")
    user, occurred_at = user[order], engagements.occurred_at[order]
    is_first = np.diff(user, prepend=-1) != 0
    gap = np.where(is_first, np.nan, np.diff(occurred_at, prepend=0) / 1000)
    action = engagements.action[order].astype(np.int64)
    alone = np.array([given is None for given in engagements.recommendation_id], np.bool_)[order]
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    matured = np.flatnonzero(history.slates.matured)
    by_cause = matured[np.argsort(place[history.cause[matured]], kind="stable")]
    return SortedColumns(
        user=user,
        occurred_at=occurred_at,
        item=history.item[order].astype(np.int64),
        action=action,
        value=engagements.value[order].astype(np.float32),
        gap=gap.astype(np.float32),
        predicted=alone & ~np.isin(action, (IMPRESSION, SKIP, DISLIKE)),
        slates=history.slates.take(by_cause),
        position=place[history.cause[by_cause]],
    )


def windows_between(columns: SortedColumns, begin: float, end: float, window: int) -> Windows:
    """Windows of at most `window` engagements before `end`, cut from each user's newest back, with those of the slates
    that were caused from `begin` on and before `end`; windows without any are left out. Times in epoch milliseconds."""
    rows = np.flatnonzero(columns.occurred_at < end)
    if not len(rows):
        return Windows(columns, rows, rows, rows, rows)
    user = columns.user[rows]
    last_of_user = np.flatnonzero(np.diff(user, append=-1) != 0)
    from_last = last_of_user[np.searchsorted(last_of_user, np.arange(len(rows)))] - np.arange(len(rows))
    starts = (np.diff(user, prepend=-1) != 0) | ((from_last + 1) % window == 0)
    start = rows[starts]
    stop = np.append(rows[np.flatnonzero(starts)[1:] - 1], rows[-1]) + 1
    caused_at = columns.occurred_at[columns.position]
    wanted = np.flatnonzero((caused_at >= begin) & (caused_at < end))
    columns = replace(columns, slates=columns.slates.take(wanted), position=columns.position[wanted])
    first, last = np.searchsorted(columns.position, start), np.searchsorted(columns.position, stop)
    held = last > first
    return Windows(columns, start[held], stop[held], first[held], last[held])


def _padded(start: Rows, stop: Rows) -> Rows:
    """int64[B, longest]: the numbers from start to stop, -1 after them."""
    places = np.arange(int((stop - start).max(initial=0)))
    rows = start[:, None] + places
    return np.where(rows < stop[:, None], rows, -1)


def _taken(column: npt.NDArray[Any], rows: Rows, empty: float) -> npt.NDArray[Any]:
    if not len(column):
        return np.full((*rows.shape, *column.shape[1:]), empty, column.dtype)
    taken = column[np.maximum(rows, 0)]
    taken[rows < 0] = empty
    return taken
