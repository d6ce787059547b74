"""Which fault comes in which round: drawn from a seed, each fault equally often, in an order of chance.

Pure. A round's own seed depends on the run's seed and its number alone, so a run that was interrupted goes on as it
would have.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Round:
    """seed: of everything that is drawn by chance in the round."""

    number: int
    fault: str
    seed: int


def schedule(seed: int, rounds: int, faults: Sequence[str]) -> list[Round]:
    """The faults in shuffled packs that hold each of them once; the last pack is cut off."""
    draw, found = random.Random(seed), list[Round]()
    while len(found) < rounds:
        pack = list(faults)
        draw.shuffle(pack)
        found += [Round(len(found) + place, fault, draw.getrandbits(32)) for place, fault in enumerate(pack)]
    return found[:rounds]
