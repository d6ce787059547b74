"""From SQL to what a policy is trained and judged on: engagements, slates with their rewards, and the catalogue.

Most slates are replaced by a newer one before anybody looks at them. Where impressions say what was looked at, the
others are left out: nothing that they hold could earn anything.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from models.catalogue import Catalogue, item_key
from models.engagements import IMPRESSION, Engagements
from models.logged_slates import LoggedSlates
from models.policy_history import PolicyHistory
from storage.catalogue import catalogue_positions, changed_items
from storage.database import Database
from storage.label_state import begin_snapshot
from storage.policy_data import SlateColumns, logged_engagements, logged_slates, policy_cut
from streams.catalogue_watch import parts
from streams.engagement_source import stored_as_engagements

Place = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class StoredFeedback:
    """history's rows are those of the catalogue; until: what the history knows."""

    history: PolicyHistory
    catalogue: Catalogue
    until: datetime


def policy_history(
    database: Database,
    *,
    items_topic: str,
    now: datetime,
    since: datetime | None,
    reward_window: timedelta,
    progress: Callable[[], None] = lambda: None,
) -> StoredFeedback:
    """All that is stored now of engagements from a moment on. Raises DatabaseUnavailable."""
    catalogue = stored_catalogue(database, items_topic)
    with database.reading() as connection:
        begin_snapshot(connection)
        cut = policy_cut(connection, now)
        told: list[Engagements] = []
        place_of: dict[Place, int] = {}
        for columns in logged_engagements(connection, since=since, cut=cut):
            events = stored_as_engagements(columns.columns)
            places = zip(
                columns.topic_generation.tolist(), events.partition.tolist(), events.offset.tolist(), strict=True
            )
            first = len(place_of)
            place_of.update((place, first + row) for row, place in enumerate(places))
            told.append(events)
            progress()
        shown = []
        for slates in logged_slates(connection, since=since, cut=cut, reward_window=reward_window):
            shown.append(slates)
            progress()
    engagements = Engagements.concatenate(told)
    logged, cause = as_logged(shown, catalogue, place_of)
    seen = looked_at(shown, engagements)
    logged, cause = logged.take(seen), cause[seen]
    item = catalogue.rows_of(engagements.item_id).astype(np.int32)
    history = PolicyHistory(engagements, item, logged, cause, catalogue.table())
    return StoredFeedback(history, catalogue, now)


def stored_catalogue(database: Database, topic: str) -> Catalogue:
    catalogue = Catalogue()
    with database.reading() as connection:
        begin_snapshot(connection)
        for columns in changed_items(connection, {}, catalogue_positions(connection, topic)):
            for items in parts(columns):
                catalogue.put(items)
    return catalogue


def as_logged(
    parts_of: Sequence[SlateColumns], catalogue: Catalogue, place_of: dict[Place, int]
) -> tuple[LoggedSlates, npt.NDArray[np.int64]]:
    """The slates as models take them, and the row of the engagement that each answers."""
    numbers: dict[str, int] = {}
    candidates = max((columns.candidates.shape[1] for columns in parts_of), default=0)
    places = max((columns.reward.shape[1] for columns in parts_of), default=0)
    found = [_part(columns, catalogue, candidates, places, numbers) for columns in parts_of]
    cause = [
        place_of[place]
        for columns in parts_of
        for place in zip(
            columns.topic_generation.tolist(),
            columns.source_partition.tolist(),
            columns.source_offset.tolist(),
            strict=True,
        )
    ]
    if not found:
        return _no_slates(), np.zeros(0, np.int64)
    return LoggedSlates.concatenate(found), np.array(cause, np.int64)


def looked_at(parts_of: Sequence[SlateColumns], engagements: Engagements) -> npt.NDArray[np.int64]:
    """The rows of slates that an impression names, of all of them where no impression names any. What else names a
    slate does not count: clicks would choose the slates that were worth one."""
    impressions = np.flatnonzero(engagements.action == IMPRESSION).tolist()
    named = {engagements.recommendation_id[row] for row in impressions} - {None}
    slates = [name for columns in parts_of for name in columns.recommendation_id]
    if not named:
        return np.arange(len(slates))
    return np.flatnonzero(np.fromiter((name in named for name in slates), np.bool_, len(slates)))


def _part(
    columns: SlateColumns, catalogue: Catalogue, candidates: int, places: int, numbers: dict[str, int]
) -> LoggedSlates:
    count, width = len(columns), columns.candidates.shape[1]
    rows, weights = np.full((count, candidates), -1, np.int32), np.full((count, candidates), -np.inf, np.float32)
    present = np.arange(width) < columns.candidate_count[:, None]
    rows[:, :width] = np.where(present, catalogue.rows_of_keys(columns.candidates), -1)
    weights[:, :width] = columns.log_weights
    reward, picks = np.zeros((count, places)), np.full((count, places), -1, np.int16)
    reward[:, : columns.reward.shape[1]] = columns.reward
    for row, items in enumerate(columns.item_id):
        chosen = np.array([item_key(item_id) for item_id in items], np.int64)
        picks[row, : len(items)] = (columns.candidates[row] == chosen[:, None]).argmax(1)
    return LoggedSlates(
        user=np.array([numbers.setdefault(user, len(numbers)) for user in columns.user_id], np.int64),
        made_at=columns.made_at,
        policy=columns.policy,
        candidates=rows,
        log_weights=weights,
        picks=picks,
        reward=reward,
        matured=columns.matured,
    )


def _no_slates() -> LoggedSlates:
    nothing = np.zeros(0, np.int64)
    return LoggedSlates(
        nothing,
        nothing,
        [],
        np.zeros((0, 0), np.int32),
        np.zeros((0, 0), np.float32),
        np.zeros((0, 0), np.int16),
        np.zeros((0, 0)),
        np.zeros(0, np.bool_),
    )
