"""What becomes known of simulated payments, and when: a label some time after its payment.

A fraud is reported by a chargeback, an honest payment confirmed by the customer. Banks often know frauds only, so
the honest labels can be left out.
"""

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import numpy.typing as npt

from ops.simulate.cards import BadSimulation, SimulatedTransactions, texts
from ops.simulate.ids import numbered_texts, stable_number
from ops.simulate.payments import HONEST, Floats, Int8s, Int32s, Int64s
from ops.simulate.population import Population
from ops.simulate.scenarios import SCENARIO_NAMES

Label = Literal["fraud", "legitimate"]
FRAUD: Label = "fraud"
LEGITIMATE: Label = "legitimate"


@dataclass(frozen=True, slots=True)
class LabelDelay:
    """Milliseconds between a payment and its label, drawn evenly from shortest..longest."""

    shortest: int
    longest: int

    def __post_init__(self) -> None:
        if not 0 <= self.shortest <= self.longest:
            raise BadSimulation(f"a label's delay must be a span of time, not {self.shortest} to {self.longest} ms")


@dataclass(frozen=True, slots=True)
class Labels:
    """m labels in the order in which they are given (given_at in epoch milliseconds). number names the event, account
    is its account's place in the population, scenario a place in SCENARIO_NAMES or HONEST."""

    population: Population
    id_prefix: str
    number: Int64s
    account: Int32s
    scenario: Int8s
    given_at: Int64s

    def __len__(self) -> int:
        return len(self.number)

    def event_ids(self) -> list[str]:
        return numbered_texts(self.id_prefix, self.number)

    def account_ids(self) -> list[str]:
        return texts(self.population.account_ids, self.account)

    @property
    def fraud(self) -> npt.NDArray[np.bool_]:
        frauds: npt.NDArray[np.bool_] = self.scenario != HONEST
        return frauds

    def label_names(self) -> list[Label]:
        return texts((LEGITIMATE, FRAUD), self.fraud.astype(np.int8))

    def scenario_names(self) -> list[str | None]:
        """None for an honest payment."""
        return texts((*SCENARIO_NAMES, None), self.scenario)

    def take(self, rows: Int64s | npt.NDArray[np.bool_] | slice) -> "Labels":
        columns = {name: getattr(self, name)[rows] for name in COLUMNS}
        return Labels(self.population, self.id_prefix, **columns)

    def merged_with(self, other: "Labels") -> "Labels":
        """Both, in the order in which they are given. Of the same run."""
        columns = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in COLUMNS}
        both = Labels(self.population, self.id_prefix, **columns)
        return both.take(np.argsort(both.given_at, kind="stable"))


class PendingLabels:
    """Labels of one run that wait for their time.

    They are kept in a few sorted pieces whose lengths at least double, so that a batch costs little however many
    labels wait: with a delay of days there are millions."""

    def __init__(self, none: Labels) -> None:
        """none: no labels, of the run."""
        self._none = none
        self._pieces: list[Labels] = []

    def __len__(self) -> int:
        return sum(map(len, self._pieces))

    def add(self, labels: Labels) -> None:
        """In the order in which they are given, of later events than all before."""
        if len(labels):
            self._pieces.append(labels)
        while len(self._pieces) > 1 and len(self._pieces[-2]) < 2 * len(self._pieces[-1]):
            last = self._pieces.pop()
            self._pieces[-1] = self._pieces[-1].merged_with(last)

    def take_due(self, now: int) -> Labels:
        """Those given by `now` (epoch milliseconds), in the order in which they are given; they wait no longer."""
        due, waiting = self._none, []
        for piece in self._pieces:
            count = int(np.searchsorted(piece.given_at, now, side="right"))
            if count:
                due = due.merged_with(piece.take(slice(0, count)))
            if count < len(piece):
                waiting.append(piece.take(slice(count, None)))
        self._pieces = waiting
        return due


COLUMNS = tuple(field.name for field in fields(Labels) if field.name not in ("population", "id_prefix"))


def labels_of(transactions: SimulatedTransactions, delay: LabelDelay, *, legitimate_share: float = 1.0) -> Labels:
    """A label for every fraud, and for this share of the honest payments (0: frauds only), chosen at random.

    Each event's chance depends on its id alone: the label is the same however the events are cut into batches."""
    if not 0 <= legitimate_share <= 1:
        raise BadSimulation(f"the share of legitimate labels must be between 0 and 1, not {legitimate_share}")
    prefix, number = transactions.id_prefix, transactions.number
    chosen = transactions.fraud | (chance(f"{prefix} labelled", number) < legitimate_share)
    payments, number = transactions.payments.take(chosen), number[chosen]
    after = np.floor(chance(f"{prefix} delay", number) * (delay.longest - delay.shortest + 1)).astype(np.int64)
    labels = Labels(
        population=transactions.population,
        id_prefix=prefix,
        number=number,
        account=payments.account,
        scenario=payments.scenario,
        given_at=payments.occurred_at + delay.shortest + after,
    )
    return labels.take(np.argsort(labels.given_at, kind="stable"))


def chance(purpose: str, number: Int64s) -> Floats:
    """An even draw from [0, 1) for each number and purpose: splitmix64 (Steele, Lea and Flood, 2014)."""
    golden = 0x9E3779B97F4A7C15
    mixed = number.astype(np.uint64) * np.uint64(golden) + np.uint64((stable_number(purpose) + golden) % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)) / 2.0**53
