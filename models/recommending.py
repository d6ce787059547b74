"""From engagements to slates: moves the users' states on and decides who gets which items, with which probability.

Not for several threads. It knows nothing of Kafka or SQL: streams/recommendation.py turns what it answers into rows.
The order of a batch: duplicates and rings (users.py), the network's state (running_policy.py), popularity, then a slate
for each user whose engagements ask for one: candidates, what may not be shown (guard_rails.py), weights and the draw
(slates.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch

from models.catalogue import Catalogue
from models.chance import gumbel, uniforms
from models.engagements import IMPRESSION, Engagements, rewards
from models.guard_rails import SlateRules, allowed_candidates, among, in_holdout, shown_too_often, too_many_alike
from models.hashing import hashes
from models.policy import TrainedPolicy
from models.popularity import Popularity, PopularityByItem
from models.residents import Kept, Residents
from models.running_policy import RunningPolicy
from models.similar_items import nearest_items
from models.slates import conditionals, draw_slates, floored_log_weights, prefix_products
from models.state import NEVER
from models.users import NotedBatch, Users
from models.why_item import EVERYONE, POPULARITY, ItemReason, strongest, why_item

Rows = npt.NDArray[np.int64]
RANDOM, POPULAR = "random", "popular"
_BY_POPULARITY, _AT_RANDOM, _BY_POLICY = range(3)


@dataclass(frozen=True, slots=True)
class Slates:
    """m slates, of up to K out of C candidates. rows int64[m]: the batch row that each answers; policy: who chose;
    seed uint64[m]: the draw's; candidates int32[m, C]: catalogue rows, -1 for none; log_weights float32[m, C]; picks
    int16[m, K]: places among the candidates, -1 for none; propensity and prefix float64[m, K]: given the positions
    before, and with them, NaN for none; score float32[m, K]: the policy's logit; counts: candidates that each rule
    took away, slates whose rules were lifted, users for whom the policy had no answer."""

    rows: Rows
    policy: Sequence[str]
    seed: npt.NDArray[np.uint64]
    candidates: npt.NDArray[np.int32]
    log_weights: npt.NDArray[np.float32]
    picks: npt.NDArray[np.int16]
    propensity: npt.NDArray[np.float64]
    prefix: npt.NDArray[np.float64]
    score: npt.NDArray[np.float32]
    counts: dict[str, int]

    def __len__(self) -> int:
        return len(self.rows)

    def shown(self) -> "Slates":
        """Without those that are empty because nothing may be shown."""
        full = self.picks[:, 0] >= 0
        if full.all():
            return self
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        policy = [name for name, kept in zip(self.policy, full.tolist(), strict=True) if kept]
        kept = {name: value[full] for name, value in columns.items() if isinstance(value, np.ndarray)}
        return Slates(**(columns | kept | {"policy": policy}))


@dataclass(frozen=True, slots=True)
class Answer:
    """duplicate bool[n]; slates: None where nobody gets one; unknown_items: engagements with items that are in no
    catalogue."""

    duplicate: npt.NDArray[np.bool_]
    slates: Slates | None
    unknown_items: int


class Recommender:
    """The state of all resident users under one policy, or under none: then everyone gets what is popular."""

    def __init__(self, catalogue: Catalogue, rules: SlateRules, *, device: str = "cpu", capacity: int = 1024) -> None:
        self.catalogue = catalogue
        self._rules = rules
        self._device = torch.device(device)
        self._users = Users(capacity)
        self._popularity = Popularity(rules.popularity_half_life)
        self._running: RunningPolicy | None = None
        self._name = POPULAR
        #: How often a policy, or none, was put in use; the users' states of each time are their own.
        self.activations = 0
        self.kept = self._kept()

    @property
    def resident_users(self) -> int:
        return len(self._users.slots)

    @property
    def state_bytes_per_user(self) -> int:
        """Of rings and, under a policy, of its network's state."""
        network = 0 if self._running is None else self._running.state_bytes_per_user
        return self._users.arena.bytes_per_slot + self._users.slots.bytes_per_slot + network

    @property
    def policy(self) -> str:
        """The name of the policy in use, or POPULAR."""
        return self._name

    def prepare(self, policy: TrainedPolicy) -> RunningPolicy:
        """A policy with all item vectors, for use_policy; may take seconds, on any thread."""
        return RunningPolicy(policy, self.catalogue, self._users, self._device)

    def use_policy(self, running: RunningPolicy | None, name: str = POPULAR) -> None:
        """From the next batch on; None for what is popular."""
        if running is not self._running:
            self.activations += 1
            if running is not None:
                running.forget()
        self._running, self._name = running, name

    @torch.inference_mode()
    def respond(self, events: Engagements, seed_of: Callable[[Rows], npt.NDArray[np.uint64]]) -> Answer:
        """Moves the state on by a batch (several partitions may share it, each in offset order) and makes the slates
        that it asks for. seed_of: seeds of batch rows, from their place in the log."""
        noted, states, known = self._move_on(events)
        asking = self._asking(events, noted)
        slates = None
        if len(asking) and len(self.catalogue.available_rows):
            slates = self._slates(events, noted, states, asking, seed_of(noted.rows[asking])).shown()
            self._users.arena.arrays["slate_at"][noted.runs.slot[asking]] = events.occurred_at[noted.rows[asking]]
        return Answer(noted.duplicate, slates, int((known < 0).sum()))

    @torch.inference_mode()
    def fold(self, events: Engagements) -> None:
        """The same movement of state without slates: silent replay."""
        self._move_on(events)

    @torch.inference_mode()
    def remember(self, events: Engagements) -> None:
        """Moves everything on but the network's state: engagements from before the present policy was activated, which
        builds its states from the rings."""
        known = self.catalogue.rows_of(events.item_id)
        noted = self._noted(events, known)
        if self._running is not None:
            self._running.miss(noted)

    @torch.inference_mode()
    def similar(self, item_id: str, count: int) -> list[tuple[str, float]]:
        """The available items most like an item, with their cosines, the nearest first: by the policy's vectors, by
        content alone without a policy. None for an unknown item."""
        (row,) = self.catalogue.rows_of([item_id]).tolist()
        if row < 0:
            return []
        if self._running is not None:
            self._running.follow_catalogue()
        rows, cosines = nearest_items(self._vectors, row, torch.from_numpy(self.catalogue.available), count)
        names = [self.catalogue.item_ids[near] for near in rows.tolist()]
        return list(zip(names, cosines.tolist(), strict=True))

    def _vectors(self, rows: slice) -> torch.Tensor:
        if self._running is not None:
            return self._running.vectors(rows).cpu()
        return torch.from_numpy(self.catalogue.content[rows].astype(np.float32))

    @torch.inference_mode()
    def why(self, partition: int, user_id: str, item_id: str, at: int | None = None) -> list[ItemReason]:
        """What speaks for an item in a user's slate, the strongest first. at: epoch milliseconds of the one who asks,
        the user's latest engagement by default. Nothing for unknown users and items."""
        (row,), slot = self.catalogue.rows_of([item_id]).tolist(), self._users.slots.known(partition, user_id)
        if row < 0 or slot is None or not self._users.arena.arrays["events"][slot]:
            return []
        if in_holdout([user_id], self._rules.holdout)[0]:
            return strongest([])
        if self._running is None or self._users.arena.arrays["told"][slot] < self._rules.least_told:
            earned = float(np.log1p(self._popularity.of_all(len(self.catalogue))[row]))
            return strongest([ItemReason(POPULARITY, earned, EVERYONE)])
        self._running.follow_catalogue()
        latest = int(self._users.arena.arrays["last_time"][slot])
        since = max(0.0, ((latest if at is None else at) - latest) / 1000)
        return strongest(why_item(self._running, self.catalogue, self._users.recent(np.array([slot])), row, since))

    def note_slates(self, partition: int, user_ids: Sequence[str], occurred_at: Rows) -> None:
        """Slates that were made before a restore, in their order, for engagements at occurred_at."""
        for user_id, at in zip(user_ids, occurred_at.tolist(), strict=True):
            self._users.arena.arrays["slate_at"][self._users.slots.slot(partition, user_id)] = at

    def drop_partition(self, partition: int) -> None:
        freed = self._users.drop_partition(partition)
        self._popularity.drop_partition(partition)
        if self._running is not None:
            self._running.clear(freed)

    def _kept(self) -> Kept:
        """Users leave memory and come back; what items earn is kept whole."""
        users = Residents(
            self._users.slots, self._users.arena, lambda: () if self._running is None else (self._running,)
        )
        whole = PopularityByItem(self._popularity, self.catalogue)
        return Kept(
            {"users": users}, leaving="users", meaning=f"half-life {self._rules.popularity_half_life}", whole=whole
        )

    def _move_on(self, events: Engagements) -> tuple[NotedBatch, torch.Tensor | None, Rows]:
        """The batch sorted, the network's state after each sorted row, and the catalogue row of each event's item."""
        known = self.catalogue.rows_of(events.item_id)
        if self._running is not None:
            self._running.follow_catalogue()
            self._running.build_states(np.unique(self._users.find(events)))
        noted = self._noted(events, known)
        states = None if self._running is None else self._running.step(noted, known[noted.rows])
        return noted, states, known

    def _noted(self, events: Engagements, known: Rows) -> NotedBatch:
        """Rings and popularity, moved on by a batch whose items have the catalogue rows `known`."""
        noted = self._users.note(events, hashes(events.item_id).view(np.int64))
        self._popularity.add(
            events.partition[noted.rows],
            known[noted.rows],
            events.occurred_at[noted.rows],
            rewards(noted.action, noted.value.astype(np.float64)),
            len(self.catalogue),
        )
        return noted

    def _asking(self, events: Engagements, noted: NotedBatch) -> Rows:
        """The sorted row of each user's latest engagement that asks for a slate: all but impressions do, and an
        impression once the user's slate is old."""
        before = self._users.arena.arrays["slate_at"][noted.runs.slot]
        age = events.occurred_at[noted.rows] - before
        asks = (noted.action != IMPRESSION) | (before == NEVER) | (age > self._rules.slate_max_age)
        latest = np.full(len(noted.runs.first), -1, np.int64)
        run = np.cumsum(noted.runs.rank == 0) - 1
        latest[run[asks]] = np.flatnonzero(asks)
        return latest[latest >= 0]

    def _slates(
        self,
        events: Engagements,
        noted: NotedBatch,
        states: torch.Tensor | None,
        asking: Rows,
        seed: npt.NDArray[np.uint64],
    ) -> Slates:
        rules, rows = self._rules, noted.rows[asking]
        now, slots = events.occurred_at[rows], noted.runs.slot[asking]
        of_candidates, of_alike, of_draw = np.split(uniforms(seed, 3 * rules.candidates), 3, axis=1)
        query = None if states is None or self._running is None else self._running.query(states, asking)
        deciding, failed = self._deciding([events.user_id[row] for row in rows.tolist()], noted.told[asking], query)
        candidates, liking = self._retrieved(deciding, query, of_candidates)
        odd = ~np.isfinite(liking).all(1)
        if odd.any():
            deciding[odd], failed = _BY_POPULARITY, failed + int(odd.sum())
            candidates, liking = self._retrieved(deciding, query, of_candidates)
        places = candidates.shape[1]
        allowed, counts = self._allowed(candidates, liking, slots, now, of_alike[:, :places])
        log_weights = floored_log_weights(liking, allowed, rules.floor)
        picks = draw_slates(log_weights, of_draw[:, :places], rules.size)
        given = conditionals(log_weights, picks)
        score = np.take_along_axis(liking, np.maximum(picks, 0).astype(np.int64), 1)
        return Slates(
            rows=rows,
            policy=[(POPULAR, RANDOM, self._name)[kind] for kind in deciding.tolist()],
            seed=seed,
            candidates=candidates.astype(np.int32),
            log_weights=log_weights,
            picks=picks,
            propensity=given,
            prefix=prefix_products(given),
            score=np.where(picks >= 0, score, np.nan).astype(np.float32),
            counts=counts | {"policy_failed": failed},
        )

    def _deciding(
        self, user_ids: list[str], told: Rows, query: torch.Tensor | None
    ) -> tuple[npt.NDArray[np.int8], int]:
        """int8[m]: who decides for each user, _BY_POPULARITY, _AT_RANDOM or _BY_POLICY; and for how many users the
        policy's answer is no number, so that it does not decide for them."""
        deciding, failed = np.full(len(user_ids), _BY_POPULARITY, np.int8), 0
        held = in_holdout(user_ids, self._rules.holdout)
        if query is not None:
            sound, known = torch.isfinite(query).all(1).cpu().numpy(), told >= self._rules.least_told
            deciding[known & sound] = _BY_POLICY
            failed = int((known & ~sound & ~held).sum())
        deciding[held] = _AT_RANDOM
        return deciding, failed

    def _retrieved(
        self, deciding: npt.NDArray[np.int8], query: torch.Tensor | None, uniform: npt.NDArray[np.float64]
    ) -> tuple[Rows, npt.NDArray[np.float32]]:
        """The candidates and what the decider thinks of each."""
        by_popularity = (deciding == _BY_POPULARITY).any()
        popular = self._popularity.of_all(len(self.catalogue)) if by_popularity else np.zeros(0)
        candidates = self._candidates(deciding, query, popular, uniform)
        return candidates, self._likings(deciding, query, popular, candidates)

    def _candidates(
        self,
        deciding: npt.NDArray[np.int8],
        query: torch.Tensor | None,
        popular: npt.NDArray[np.float64],
        uniform: npt.NDArray[np.float64],
    ) -> Rows:
        """int64[m, C]: catalogue rows, each at most once, -1 for none; those that chance brought come first."""
        available = self.catalogue.available_rows
        if len(available) <= self._rules.candidates:
            return np.broadcast_to(available, (len(deciding), len(available))).copy()
        candidates = available[(uniform * len(available)).astype(np.int64)]
        best = candidates[:, self._rules.random_candidates :]
        by_popularity, by_policy = deciding == _BY_POPULARITY, deciding == _BY_POLICY
        if by_popularity.any():
            liked = popular[available]
            first = np.argpartition(-liked, best.shape[1] - 1)[: best.shape[1]]
            best[by_popularity] = available[first[np.argsort(-liked[first], kind="stable")]]
        if query is not None and self._running is not None and by_policy.any():
            chosen = torch.from_numpy(np.flatnonzero(by_policy)).to(query.device)
            best[by_policy] = self._running.best(query[chosen], best.shape[1])
        return without_repeats(candidates)

    def _likings(
        self,
        deciding: npt.NDArray[np.int8],
        query: torch.Tensor | None,
        popular: npt.NDArray[np.float64],
        candidates: Rows,
    ) -> npt.NDArray[np.float32]:
        """float32[m, C]: what the decider thinks of each candidate, as unnormalised log-probabilities; 0 for none."""
        liking = np.zeros(candidates.shape, np.float32)
        by_popularity, by_policy = deciding == _BY_POPULARITY, deciding == _BY_POLICY
        if by_popularity.any():
            liking[by_popularity] = np.log1p(popular[np.maximum(candidates[by_popularity], 0)])
        if query is not None and self._running is not None and by_policy.any():
            chosen = torch.from_numpy(np.flatnonzero(by_policy)).to(query.device)
            liking[by_policy] = self._running.likings(query[chosen], candidates[by_policy])
        liking[candidates < 0] = 0
        return liking

    def _allowed(
        self,
        candidates: Rows,
        liking: npt.NDArray[np.float32],
        slots: Rows,
        now: Rows,
        uniform: npt.NDArray[np.float64],
    ) -> tuple[npt.NDArray[np.bool_], dict[str, int]]:
        rules, state, at = self._rules, self._users.arena.arrays, np.maximum(candidates, 0)
        present = candidates >= 0
        key, category = np.where(present, self.catalogue.key[at], 0), self.catalogue.category[at]
        hard = {
            "bought": among(key, state["bought"][slots]),
            "disliked": among(key, state["disliked"][slots]),
        }
        soft = {
            "shown_too_often": lambda _allowed: shown_too_often(
                key, state["shown"][slots], state["shown_at"][slots], now, rules
            ),
            "too_many_alike": lambda allowed: too_many_alike(
                category,
                allowed,
                floored_log_weights(liking, allowed, rules.floor) + gumbel(uniform),
                rules.most_of_category,
            ),
        }
        return allowed_candidates(present, hard, soft, liking, rules.size)


def without_repeats(candidates: Rows) -> Rows:
    """Of what occurs twice in a row, the first stays; -1 for the others."""
    order = np.argsort(candidates, axis=1, kind="stable")
    ordered = np.take_along_axis(candidates, order, 1)
    repeated = np.zeros(ordered.shape, np.bool_)
    np.equal(ordered[:, 1:], ordered[:, :-1], out=repeated[:, 1:])
    ordered[repeated] = -1
    result = np.empty_like(candidates)
    np.put_along_axis(result, order, ordered, 1)
    return result
