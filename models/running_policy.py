"""One policy over the users' engagements: its state of each user, moved on batch by batch, and the vectors of items.

Users whose engagements it did not see (it was just activated) are built from their rings at first touch. Item vectors
follow the catalogue. Call within torch.inference_mode(), as HiddenStates asks.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.artifact import BadModel
from models.catalogue import Catalogue
from models.item_content import ID_BUCKETS, ITEM_CONTENT, TEXT_BUCKETS
from models.policy import TrainedPolicy
from models.recurrence import states_after
from models.retrieval import best_items
from models.state import HiddenStates
from models.users import NotedBatch, RecentEngagements, Users

Rows = npt.NDArray[np.int64]
#: Items whose vectors are made at once.
ITEMS_AT_ONCE = 4_096


class RunningPolicy:
    """Built on any thread; from its first `follow_catalogue` on it belongs to one. Raises BadModel for a policy that
    was made for other items."""

    def __init__(self, policy: TrainedPolicy, catalogue: Catalogue, users: Users, device: torch.device) -> None:
        config = policy.network.config
        if (config.content, config.buckets) != (ITEM_CONTENT, ID_BUCKETS) or config.text_buckets not in (
            0,
            TEXT_BUCKETS,
        ):
            raise BadModel(
                f"the policy reads {config.content} content columns, {config.buckets} buckets of items and "
                f"{config.text_buckets} of texts, which have {ITEM_CONTENT}, {ID_BUCKETS} and {TEXT_BUCKETS}"
            )
        self.policy = policy
        self._network = policy.network.to(device).eval()
        self._catalogue = catalogue
        self._users = users
        self._device = device
        self._hidden = HiddenStates(policy.network.config.hidden, users.arena.capacity, device)
        self._vectors = torch.zeros(0, policy.network.config.vector, device=device)
        self._available = torch.zeros(0, dtype=torch.bool, device=device)
        self._follows = 0
        with torch.inference_mode():
            self.follow_catalogue()

    def follow_catalogue(self) -> None:
        """Makes the vectors of items whose content is new or changed."""
        # In this order: what another thread changes meanwhile is done again at the next version.
        version, count = self._catalogue.version, len(self._catalogue)
        if version == self._follows:
            return
        if count > len(self._vectors):
            larger = torch.zeros(max(count, 2 * len(self._vectors)), self._vectors.shape[1], device=self._device)
            larger[: len(self._vectors)] = self._vectors
            self._vectors = larger
        changed = self._catalogue.changed_since(self._follows)
        changed = changed[changed < count]
        for start in range(0, len(changed), ITEMS_AT_ONCE):
            rows = changed[start : start + ITEMS_AT_ONCE]
            items = self._catalogue.table(rows).to(self._device)
            self._vectors[self._index(rows)] = self._network.item_vectors(items)
        self._available = torch.from_numpy(self._catalogue.available[:count].copy()).to(self._device)
        self._follows = version

    def build_states(self, touched: Rows) -> None:
        """Before a batch moves the users on: of those in it whose engagements the network has not seen. touched
        int64[k]: their slots, each once."""
        self._hidden.grow_to(self._users.slots.highest)
        outdated = touched[~self._hidden.current[touched]]
        if len(outdated):
            self._hidden.clear(outdated)
            old = outdated[self._users.arena.arrays["events"][outdated] > 0]
            if len(old):
                recent = self._users.recent(old)
                self._recur(recent, self._catalogue.rows_of_keys(recent.key))
            self._hidden.current[outdated] = True

    def step(self, noted: NotedBatch, item_rows: Rows) -> Tensor:
        """float[m, hidden]: the state after each sorted engagement, with the catalogue rows of their items, -1 for
        unknown ones."""
        self._hidden.grow_to(self._users.slots.highest)
        return self._recur(noted, item_rows)

    def miss(self, noted: NotedBatch) -> None:
        """The users have moved on without this network."""
        self._hidden.grow_to(self._users.slots.highest)
        self._hidden.current[noted.runs.slot] = False

    def query(self, states: Tensor, rows: Rows) -> Tensor:
        """float[k, vector] of the states in some rows."""
        return self._network.query(states[self._index(rows)])

    def best(self, query: Tensor, count: int) -> Rows:
        """int64[k, count]: the available items that a policy likes best, in their order, -1 where there are no more."""
        rows, scores = best_items(query, self._vectors[: len(self._available)], self._available, count)
        found = torch.where(torch.isfinite(scores), rows, -1).cpu().numpy()
        padded = np.full((len(found), count), -1, np.int64)
        padded[:, : found.shape[1]] = found
        return padded

    def likings(self, query: Tensor, items: Rows) -> npt.NDArray[np.float32]:
        """float32[k, C]: logits of catalogue rows int64[k, C]; of rows below 0 anything."""
        if not len(self._vectors):  # no item is known yet
            return np.zeros(items.shape, np.float32)
        vectors = self._vectors[self._index(np.maximum(items, 0))]
        return torch.einsum("kv,kcv->kc", query, vectors).float().cpu().numpy()

    def vectors(self, rows: slice) -> Tensor:
        """[n, vector - 1] of a range of the catalogue's rows, without their biases."""
        return self._vectors[: len(self._available)][rows, :-1]

    def biases(self) -> Tensor:
        """[A] of the catalogue's rows."""
        return self._vectors[: len(self._available), -1]

    def logits_after(self, events: RecentEngagements, item: int) -> npt.NDArray[np.float64]:
        """float64[k] of the item in a catalogue row, after each run of engagements from an empty state; moves no
        user."""
        inputs = self._inputs(events, self._catalogue.rows_of_keys(events.key))
        start = self._hidden.values.new_zeros(len(events.runs.first), self._hidden.values.shape[1])
        after = states_after(self._network.steps, inputs, events.runs, start)
        query = self._network.query(after[self._index(events.runs.last)])
        return np.asarray((query @ self._vectors[item]).double().cpu().numpy(), np.float64)

    def logit_of_nobody(self, item: int) -> float:
        """Of the item in a catalogue row for a user without engagements."""
        state = self._hidden.values.new_zeros(1, self._hidden.values.shape[1])
        return float((self._network.query(state)[0] @ self._vectors[item]).item())

    def forget(self) -> None:
        """Users are built from their rings again: others may have decided for them since they were moved on."""
        self._hidden.current[:] = False

    @property
    def state_bytes_per_user(self) -> int:
        hidden = self._hidden.values
        return hidden.shape[1] * hidden.element_size() + self._hidden.current.itemsize

    def clear(self, slots: Rows) -> None:
        """The users in these slots are gone."""
        self._hidden.grow_to(self._users.slots.highest)
        self._hidden.clear(slots)

    # As residents.Network.

    @property
    def units(self) -> int:
        return self.policy.network.config.hidden

    def states_of(self, slots: Rows) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        self._hidden.grow_to(self._users.slots.highest)
        return self._hidden.of(slots)

    def admit(self, slots: Rows, hidden: npt.NDArray[np.float32], current: npt.NDArray[np.bool_]) -> None:
        self._hidden.grow_to(self._users.slots.highest)
        self._hidden.put(slots, hidden, current)

    def leave(self, slots: Rows) -> None:
        self.clear(slots)

    def _recur(self, events: NotedBatch | RecentEngagements, item_rows: Rows) -> Tensor:
        """Moves the states on; gives those after each event."""
        runs, states = events.runs, self._hidden.values
        if not len(item_rows):
            return torch.zeros(0, states.shape[1], device=self._device)
        inputs = self._inputs(events, item_rows)
        users = runs.slot[runs.first]
        after = states_after(self._network.steps, inputs, runs, states[self._index(users)])
        states[self._index(users)] = after[self._index(runs.last)]
        self._hidden.current[users] = True
        return after

    def _inputs(self, events: NotedBatch | RecentEngagements, item_rows: Rows) -> Tensor:
        if len(self._available):
            vectors = self._vectors[self._index(np.maximum(item_rows, 0))] * self._index(item_rows >= 0)[:, None]
        else:
            vectors = self._vectors.new_zeros(len(item_rows), self._vectors.shape[1])
        action, value, gap = (self._index(c) for c in (events.action.astype(np.int64), events.value, events.gap))
        return self._network.inputs(vectors, action, value, gap)

    def _index(self, values: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(self._device)
