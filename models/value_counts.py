"""Counts over a stream of unknown length in bounded memory: of values, by what is known of their events and by time.

Time is cut into slices of equally many events. When there are too many, neighbours become one, so what is counted
depends on the stream alone and not on how it was cut into batches.
"""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
SLICES = 16
#: A slice's first width; it doubles as often as need be.
LEAST_WIDTH = 64
#: What is known of an event: not matured yet, matured without a label, matured with one of the two.
KNOWLEDGE = YOUNG, UNLABELLED, LEGITIMATE, FRAUD = range(4)
#: Values that are counted by name; later ones together.
MOST_VALUES = 20_000
MISSING, OTHERS = 0, 1
FIRST_ROOM = 64


class Slicing:
    """Which slice each event of a stream is in."""

    def __init__(self) -> None:
        self.width = LEAST_WIDTH
        self.events = 0

    def take(self, count: int) -> tuple[Numbers, int]:
        """The slices of the next events, and how often all earlier slices have become half as many for them."""
        first, halvings = self.events, 0
        self.events += count
        while self.events > self.width * SLICES:
            self.width *= 2
            halvings += 1
        return np.arange(first, self.events) // self.width, halvings

    @property
    def used(self) -> int:
        return -(-self.events // self.width)


class Counts:
    """counts int64[SLICES, 4, bins]: events of each slice, with each knowledge, in each bin."""

    def __init__(self, bins: int) -> None:
        self.counts = np.zeros((SLICES, len(KNOWLEDGE), bins), np.int64)

    def halve(self) -> None:
        merged = self.counts[0::2] + self.counts[1::2]
        self.counts[: SLICES // 2], self.counts[SLICES // 2 :] = merged, 0

    def add(self, cells: Numbers, bins: Numbers) -> None:
        """cells int64[n]: slice * 4 + knowledge of n events, bins int64[n]."""
        np.add.at(self.counts.reshape(-1), cells * self.counts.shape[2] + bins, 1)


class ValueCounts(Counts):
    """The same of texts: bin 0 counts those that are missing, bin 1 those for whose value there was no room."""

    def __init__(self, most: int = MOST_VALUES) -> None:
        super().__init__(FIRST_ROOM)
        self._numbers = _ValueNumbers(most)

    @property
    def names(self) -> list[str | None]:
        """Of the bins; the first two have none."""
        return [None, None, *list(self._numbers)[1:]]

    @property
    def overflowed(self) -> bool:
        return bool(self.counts[:, :, OTHERS].any())

    def bins_of(self, texts: Collection[str | None]) -> Numbers:
        """int64[n], for which there is room from now on."""
        bins = np.fromiter(map(self._numbers.__getitem__, texts), np.int64, len(texts))
        room = self.counts.shape[2]
        while len(self._numbers) + 1 > room:
            room *= 2
        if room > self.counts.shape[2]:
            self.counts = np.pad(self.counts, ((0, 0), (0, 0), (0, room - self.counts.shape[2])))
        return bins


class _ValueNumbers(dict[str | None, int]):
    """Text -> its bin, given at its first look-up as long as there is room."""

    def __init__(self, most: int) -> None:
        super().__init__({None: MISSING})
        self._most = most

    def __missing__(self, text: str | None) -> int:
        if len(self) > self._most:
            return OTHERS
        self[text] = len(self) + 1
        return self[text]
