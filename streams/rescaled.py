"""What a partition's state begins with after its topic has got more partitions: stored rows of several partitions.

A rescale notes how far each partition was read at that moment (storage/partition_counts.py). Before that boundary, the
state of a partition is the fold of its own rows and of those rows of the others whose key belongs to it by now, merged
in the order of their time; from the boundary on it is the fold of its own rows again. Own rows stay, whoever their key
belongs to: what a producer that learnt late of the new number still sends is met with what is known of it.

Within a partition the order is that of the log. Between two it is that of the records' timestamps, of each the latest
so far, and then the partition's number. So the merge is the same whenever it is done, and its rows are numbered instead
of their offsets, which mean nothing in another partition: upwards from minus the sum of the boundaries, below which
there are no more rows than that, so that all lie before every offset.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from storage.partition_counts import Count
from storage.progress import Claim, Control
from streams.partitioners import belongs

Int64s = npt.NDArray[np.int64]
#: Of each partition, so that a few hundred partitions fit into memory.
ROWS_AT_ONCE = 2_000


class Rows(Protocol):
    """A batch of rows as columns."""

    def __len__(self) -> int: ...

    def take(self, rows: npt.NDArray[np.intp]) -> Self: ...


Batch = TypeVar("Batch", bound=Rows)
#: (time int64[n], rows): a batch of one partition; times never fall, also not from one batch to the next.
Timed = tuple[Int64s, Batch]
#: (time int64[n], key of each row, rows): a batch of one partition as it is stored.
Stored = tuple[Int64s, Sequence[str], Batch]


def merged(
    partitions: Mapping[int, Iterator[Timed[Batch]]], concatenate: Callable[[Sequence[Batch]], Batch]
) -> Iterator[Batch]:
    """All rows in the order of their time; at the same time in that of the partitions' numbers. Holds about two batches
    of each partition."""
    heads = [_Head(rows) for _, rows in sorted(partitions.items())]
    while any(len(head.times) for head in heads):
        open_ends = [int(head.times[-1]) for head in heads if not head.ended]
        horizon = min(open_ends, default=None)
        counts = [head.before(horizon) for head in heads]
        if not any(counts):  # a whole batch at one moment: what follows may belong to it
            for head in heads:
                head.extend(horizon, concatenate)
            continue
        taken = [head.take(count) for head, count in zip(heads, counts, strict=True) if count]
        order = np.argsort(np.concatenate([times for times, _ in taken]), kind="stable")
        yield concatenate([rows for _, rows in taken]).take(order)


class _Head(Generic[Batch]):
    """The next rows of one partition."""

    def __init__(self, rows: Iterator[Timed[Batch]]) -> None:
        self._rest = rows
        self.times: Int64s = np.zeros(0, np.int64)
        self._rows: Batch | None = None
        self.ended = False
        self._refill()

    def before(self, horizon: int | None) -> int:
        """How many rows lie before a moment; None for the end of all time."""
        return len(self.times) if horizon is None else int(np.searchsorted(self.times, horizon))

    def take(self, count: int) -> Timed[Batch]:
        assert self._rows is not None
        taken = self.times[:count], self._rows.take(np.arange(count))
        self._rows = self._rows.take(np.arange(count, len(self.times)))
        self.times = self.times[count:]
        self._refill()
        return taken

    def extend(self, horizon: int | None, concatenate: Callable[[Sequence[Batch]], Batch]) -> None:
        """Reads on where a batch ends at this moment."""
        if self.ended or self.times[-1] != horizon:
            return
        assert self._rows is not None
        before, rows = self.times, self._rows
        self.times = self.times[:0]
        self._refill()
        self._rows = concatenate([rows, self._rows]) if len(self.times) and self._rows is not None else rows
        self.times = np.concatenate([before, self.times])

    def _refill(self) -> None:
        while not len(self.times) and not self.ended:
            found = next(self._rest, None)
            if found is None:
                self.ended = True
            else:
                self.times, self._rows = found


#: A partition and the offset before which to read -> its stored rows.
ReadStored = Callable[[int, int], Iterator[Stored[Batch]]]


@dataclass(frozen=True, slots=True)
class Beginning:
    """What belongs to a partition before the boundary of the latest rescale. boundaries: of every partition."""

    partition: int
    partitions: int
    partitioner: str
    boundaries: Mapping[int, int]

    @property
    def boundary(self) -> int:
        """The partition's own."""
        return self.boundaries.get(self.partition, 0)

    def kept(self, partition: int, keys: Sequence[str]) -> npt.NDArray[np.intp]:
        """The rows of a partition that belong to this one, by their keys."""
        if partition == self.partition:
            return np.arange(len(keys))
        wanted = [belongs(self.partitioner, key, self.partition, self.partitions) for key in keys]
        return np.flatnonzero(wanted)

    def has_others(self, stored: ReadStored[Batch]) -> bool:
        """Whether any row of another partition belongs to this one. Where none does, own rows keep their offsets."""
        others = (number for number in self.boundaries if number != self.partition)
        return any(
            len(self.kept(number, keys)) for number in others for _, keys, _ in stored(number, self.boundaries[number])
        )

    def rows(
        self, stored: ReadStored[Batch], concatenate: Callable[[Sequence[Batch]], Batch]
    ) -> Iterator[tuple[Int64s, Batch]]:
        """All of them in their order, with their numbers."""
        partitions = {
            number: self._timed(number, stored(number, boundary)) for number, boundary in self.boundaries.items()
        }
        following = -sum(self.boundaries.values())
        for rows in merged(partitions, concatenate):
            yield np.arange(following, following + len(rows)), rows
            following += len(rows)

    def _timed(self, partition: int, stored: Iterator[Stored[Batch]]) -> Iterator[Timed[Batch]]:
        """What belongs to this one of a partition's rows, each with the latest time so far."""
        latest = np.iinfo(np.int64).min
        for times, keys, rows in stored:
            so_far = np.maximum(np.maximum.accumulate(times), latest)
            latest = int(so_far[-1])
            kept = self.kept(partition, keys)
            if len(kept):
                yield so_far[kept], rows.take(kept)


def beginning(claim: Claim, count: Count | None) -> Beginning | None:
    """None where the topic was never rescaled, or nothing had been read by then."""
    if count is None or count.partitioner is None or not any(count.boundaries.values()):
        return None
    return Beginning(claim.partition, count.partitions, count.partitioner, count.boundaries)


def since_rescale(control: Control | None, begin: Beginning | None) -> Control | None:
    """A control, in use from the rescale on at the earliest."""
    if control is None or begin is None:
        return control
    return replace(control, from_offset=max(control.from_offset, begin.boundary))
