"""Entities on their way out of memory and back: what changed since a snapshot, what leaves to make room, what returns.

Packed entities are copies: rows of the arena and the state of the network in use. Whether that state still fits when
they come back is for the caller to say; without it the network builds one from their rings at the next touch, as after
it was activated. Nothing here knows where packed entities are kept.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from models.hashing import stable_hash
from models.slots import Slots
from models.state import Arena

Rows = npt.NDArray[np.int64]
Hidden = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Packed:
    """k entities of one partition. touched int64[k]: the offset of each one's last event; rows: [k] records of their
    arena's arrays; hidden float32[k, units]: the state of the network in use, current bool[k]: it has seen the
    entity's newest events (else it is zero)."""

    ids: Sequence[str]
    touched: Rows
    rows: npt.NDArray[Any]
    hidden: Hidden
    current: Flags

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, places: Rows) -> "Packed":
        ids = [self.ids[place] for place in places.tolist()]
        return Packed(  # `take` needs a quarter of the time of an index, and not Python's lock
            ids,
            self.touched[places],
            self.rows.take(places),
            self.hidden.take(places, 0),
            self.current[places],
        )

    def part(self, begin: int, end: int) -> "Packed":
        """Those from one place to another, nothing copied but ids."""
        return Packed(
            self.ids[begin:end],
            self.touched[begin:end],
            self.rows[begin:end],
            self.hidden[begin:end],
            self.current[begin:end],
        )

    def without_hidden(self, units: int) -> "Packed":
        """As another network finds them."""
        nothing = np.zeros((len(self), units), np.float32)
        return Packed(self.ids, self.touched, self.rows, nothing, np.zeros(len(self), np.bool_))

    @staticmethod
    def concatenate(parts: Sequence["Packed"]) -> "Packed":
        """At least one, of one kind of entities and one network."""
        if len(parts) == 1:
            return parts[0]
        columns = ([getattr(part, name) for part in parts] for name in ("touched", "rows", "hidden", "current"))
        return Packed([entity for part in parts for entity in part.ids], *map(np.concatenate, columns))


@dataclass(frozen=True, slots=True)
class Changes:
    """What became different in a partition between two moments. entities: by kind, those that moved on, as they stand;
    gone: by kind, the ids of those that left; whole: arrays that are kept whole, by name."""

    entities: Mapping[str, Packed]
    gone: Mapping[str, Sequence[str]] = field(default_factory=dict)
    whole: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Entities that moved on."""
        return sum(map(len, self.entities.values()))

    @property
    def ids(self) -> "ChangedIds":
        return ChangedIds({kind: packed.ids for kind, packed in self.entities.items()}, self.gone)


@dataclass(frozen=True, slots=True)
class ChangedIds:
    """Who became different in a partition, without their states: by kind, those that moved on and those that left."""

    moved: Mapping[str, Sequence[str]]
    gone: Mapping[str, Sequence[str]]


def added_up(layers: Iterable[Changes]) -> Iterator[Changes]:
    """Changes to a partition, newest first, without what later ones replaced: each entity as it stood last, and none
    that had left by then."""
    seen: defaultdict[str, set[str]] = defaultdict(set)
    whole_seen = False
    for layer in layers:
        entities = {}
        for kind, packed in layer.entities.items():
            replaced = np.fromiter(map(seen[kind].__contains__, packed.ids), np.bool_, len(packed))
            entities[kind] = packed.take(np.flatnonzero(~replaced)) if replaced.any() else packed
            seen[kind].update(packed.ids)
            seen[kind].update(layer.gone.get(kind, ()))
        yield Changes(entities, whole={} if whole_seen else layer.whole)
        whole_seen = whole_seen or bool(layer.whole)


class Network(Protocol):
    """A network's states of the entities of one kind."""

    @property
    def units(self) -> int: ...

    def states_of(self, slots: Rows) -> tuple[Hidden, Flags]:
        """As Packed has them."""
        ...

    def admit(self, slots: Rows, hidden: Hidden, current: Flags) -> None:
        """Entities with history came back into these slots."""
        ...

    def leave(self, slots: Rows) -> None:
        """Entities with history leave these slots, whose rows are still there."""
        ...


class Residents:
    """The entities of one kind. networks: those that have a state of each, the one in use first; kept: the arrays of
    the arena that are packed, all by default; the others begin anew."""

    def __init__(
        self,
        slots: Slots,
        arena: Arena,
        networks: Callable[[], Sequence[Network]] = tuple,
        kept: Sequence[str] | None = None,
    ) -> None:
        self._slots = slots
        self._arena = arena
        self._networks = networks
        self.row_type = arena.row_type(tuple(arena.arrays) if kept is None else kept)

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def units(self) -> int:
        """Of the network in use; 0 without one."""
        networks = self._networks()
        return networks[0].units if networks else 0

    @property
    def layout(self) -> str:
        """Names the layout of a row: equal for equal ones."""
        return f"{stable_hash(str(self.row_type.descr)):016x}"

    def by_partition(self) -> dict[int, int]:
        """Partition -> how many of them it has here."""
        return self._slots.residents()

    def missing(self, partition: int, ids: Sequence[str]) -> list[str]:
        """Those that are not resident, each once."""
        return self._slots.missing(partition, ids)

    def take_changes(self, partition: int) -> tuple[Packed, list[str]]:
        """What moved on and the ids of what left, since the call before."""
        slots, gone = self._slots.take_changes(partition)
        return self._pack(slots), gone

    def change_again(self, partition: int, ids: Sequence[str], gone: Sequence[str]) -> None:
        """Changes that were taken and came to nothing are changes still."""
        self._slots.change_again(partition, ids, gone)

    def gone(self, partition: int) -> int:
        """How many left since changes were last taken."""
        return self._slots.gone(partition)

    def change_everything(self, partition: int) -> None:
        """The next changes hold all that is resident."""
        self._slots.change_everything(partition)

    def evict(self, partition: int, count: int) -> Packed:
        """At most so many of a partition leave, those whose last events lie furthest back."""
        slots = self._slots.longest_untouched(partition, count)
        packed = self._pack(slots)
        for network in self._networks():
            network.leave(slots)
        self._slots.remove(partition, slots)
        self._arena.clear(slots)
        return packed

    def admit(self, partition: int, packed: Packed, *, changed: bool) -> None:
        """They are here again; none of them is resident. changed: whether the next changes are to hold them."""
        slots = self._slots.admit(partition, packed.ids, packed.touched, changed=changed)
        self._arena.grow_to(self._slots.highest)
        self._arena.put_rows(slots, packed.rows)
        for place, network in enumerate(self._networks()):
            known = packed if place == 0 else packed.without_hidden(network.units)
            network.admit(slots, known.hidden, known.current)

    def _pack(self, slots: Rows) -> Packed:
        networks = self._networks()
        hidden, current = np.zeros((len(slots), 0), np.float32), np.zeros(len(slots), np.bool_)
        if networks:
            hidden, current = networks[0].states_of(slots)
        rows = self._arena.rows(slots, self.row_type)
        return Packed(self._slots.ids(slots), self._slots.touched(slots), rows, hidden, current)


class Whole(Protocol):
    """State of a partition that is small enough to be kept whole."""

    def of_partition(self, partition: int) -> Mapping[str, npt.NDArray[Any]]: ...

    def put_partition(self, partition: int, arrays: Mapping[str, npt.NDArray[Any]]) -> None: ...


class Kept:
    """All state of a partition that a snapshot holds. kinds: the residents by kind; leaving: the kind that leaves
    memory when there are too many (the others stay); meaning: of what is in the rows, beside their layout."""

    def __init__(
        self, kinds: Mapping[str, Residents], *, leaving: str, meaning: str, whole: Whole | None = None
    ) -> None:
        self.kinds = kinds
        self.leaving = kinds[leaving]
        self.leaving_kind = leaving
        self._whole = whole
        layouts = " ".join(f"{name} {residents.layout}" for name, residents in kinds.items())
        #: Equal where rows can be exchanged.
        self.layout = f"{meaning} {layouts}"

    def take_changes(self, partition: int) -> Changes:
        """What became different since the call before; to be called between two batches."""
        taken = {name: residents.take_changes(partition) for name, residents in self.kinds.items()}
        return Changes(
            {name: packed for name, (packed, _) in taken.items()},
            {name: gone for name, (_, gone) in taken.items()},
            {} if self._whole is None else self._whole.of_partition(partition),
        )

    def change_again(self, partition: int, changes: ChangedIds) -> None:
        """Changes that were taken and came to nothing are changes still."""
        for name, residents in self.kinds.items():
            residents.change_again(partition, changes.moved[name], changes.gone[name])

    def admit(self, partition: int, changes: Changes) -> None:
        """Part of a snapshot, none of whose entities is resident."""
        for name, packed in changes.entities.items():
            self.kinds[name].admit(partition, packed, changed=False)
        if self._whole is not None and changes.whole:
            self._whole.put_partition(partition, changes.whole)

    def change_everything(self, partition: int) -> None:
        """The next changes hold all that is resident, for a reader that knows nothing yet."""
        for residents in self.kinds.values():
            residents.change_everything(partition)
