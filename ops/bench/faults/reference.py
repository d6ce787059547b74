"""The undisturbed run: one offline pass over the log, and what live scores differ from it.

A worker's state is a function of its partition's log and of what `stream_controls` names. So here every partition's
records go once through the models' own code, in the order of the log, with each model taken over exactly where SQL says
that it was. The score of every transaction, and the policy's score of every recommended item, must come out the same.
No service, no restart, no snapshot has a part in it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from models.artifact import TrainedDetector
from models.catalogue import Catalogue
from models.engagements import Engagements
from models.events import Events
from models.hashing import hashes
from models.policy import TrainedPolicy
from models.running_policy import RunningPolicy
from models.scoring import Scorer
from models.users import NotedBatch, Users
from ops.bench.faults.evidence import Control, Window
from ops.bench.faults.outcomes import Violation
from ops.bench.faults.topic_log import LogRecord
from ops.bench.faults.traffic import ITEMS
from streams.activation import MODEL_CONTROL
from streams.decode import decode_transactions
from streams.decode_engagements import decode_engagements
from streams.events import engagements_of, events_of
from streams.recommendation import POLICY_CONTROL
from streams.records import DecodeLimits

#: Of scores, which are probabilities, and of a policy's logits.
TOLERANCE = 1e-4
EVENTS_AT_ONCE = 2_000
#: The file of a registered model, by its name ("name:version").
Load = Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Records of one partition in offset order under one model. new: it took over with the first of them."""

    model: str
    new: bool
    records: Sequence[LogRecord]


@dataclass(slots=True)
class ScoreReference:
    """The detector's pass, window by window."""

    load: Load
    _scorers: dict[int, Scorer] = field(default_factory=dict)

    def violations(self, window: Window) -> Iterator[Violation]:
        controls = window.controls["transactions"]
        for partition, log in _by_partition(window.inputs["transactions"].log).items():
            for stretch in stretches(log, of_partition(controls, partition, MODEL_CONTROL)):
                decoded = decode_transactions(stretch.records, DecodeLimits())
                events = events_of(decoded, np.full(len(decoded), partition, np.int32), {})
                yield from self._compared(partition, stretch, events, window)

    def _compared(self, partition: int, stretch: Stretch, events: Events, window: Window) -> Iterator[Violation]:
        scorer = self._scorer(partition, stretch)
        for first in range(0, len(events), EVENTS_AT_ONCE):
            some = events.take(np.arange(first, min(first + EVENTS_AT_ONCE, len(events))))
            scored = scorer.score(some).score.tolist()
            for offset, right in zip(some.offset.tolist(), scored, strict=True):
                row = window.predictions.get((partition, offset))
                if row is None:
                    continue  # a repeat, or a violation that is reported elsewhere
                if row.model != stretch.model:
                    yield Violation("state", f"{(partition, offset)}: scored by {row.model}, not {stretch.model}")
                elif not abs(row.score - right) <= TOLERANCE:
                    yield Violation("state", f"{(partition, offset)}: score {row.score:.6f}, undisturbed {right:.6f}")
                elif row.flagged != (row.score >= row.threshold):
                    yield Violation("state", f"{(partition, offset)}: flagged is not what score and threshold say")

    def _scorer(self, partition: int, stretch: Stretch) -> Scorer:
        known = self._scorers.get(partition)
        if known is None:
            known = self._scorers[partition] = Scorer(TrainedDetector.from_bytes(self.load(stretch.model)))
        elif stretch.new:
            known.replace_model(TrainedDetector.from_bytes(self.load(stretch.model)))
        return known


@dataclass(slots=True)
class UserStates:
    """One partition's users under the policy in use, None for what is popular."""

    users: Users = field(default_factory=Users)
    running: RunningPolicy | None = None


@dataclass(slots=True)
class SlateReference:
    """The policy's pass, window by window. The load changes nothing of items but whether they are available, so one
    catalogue serves for all versions."""

    load: Load
    _partitions: dict[int, UserStates] = field(default_factory=dict)
    _catalogue: Catalogue = field(default_factory=Catalogue)

    @torch.inference_mode()
    def violations(self, window: Window) -> Iterator[Violation]:
        if not len(self._catalogue):
            self._catalogue.put(ITEMS)
        controls = window.controls["engagements"]
        for partition, log in _by_partition(window.inputs["engagements"].log).items():
            for stretch in stretches(log, of_partition(controls, partition, POLICY_CONTROL)):
                decoded = decode_engagements(stretch.records, DecodeLimits())
                events = engagements_of(decoded, np.full(len(decoded), partition, np.int32))
                yield from self._compared(partition, stretch, events, window)

    def _compared(self, partition: int, stretch: Stretch, events: Engagements, window: Window) -> Iterator[Violation]:
        known, items = self._states(partition, stretch), self._catalogue.rows_of(events.item_id)
        if not len(events):
            return
        if known.running is not None:
            known.running.build_states(np.unique(known.users.find(events)))
        noted = known.users.note(events, hashes(events.item_id).view(np.int64))
        if known.running is None:
            return
        states = known.running.step(noted, items[noted.rows])
        for row, offset in _answered(partition, noted, events, window):
            slate = window.slates[partition, offset]
            if slate.policy in ("popular", "random"):
                continue
            if slate.policy != stretch.model:
                yield Violation("state", f"slate {(partition, offset)}: by {slate.policy}, not {stretch.model}")
                continue
            shown = self._catalogue.rows_of([one[1] for one in slate.shown])[None]
            right = known.running.likings(known.running.query(states, np.array([row])), shown)[0]
            if not np.allclose([one[4] for one in slate.shown], right, rtol=TOLERANCE, atol=TOLERANCE):
                yield Violation("state", f"slate {(partition, offset)}: its scores are not those of an undisturbed run")

    def _states(self, partition: int, stretch: Stretch) -> UserStates:
        known = self._partitions.setdefault(partition, UserStates())
        if stretch.new:
            known.running = None
            if ":" in stretch.model:
                policy = TrainedPolicy.from_bytes(self.load(stretch.model))
                known.running = RunningPolicy(policy, self._catalogue, known.users, torch.device("cpu"))
        return known


def stretches(log: Sequence[LogRecord], controls: Sequence[Control]) -> Iterator[Stretch]:
    """A partition's records, cut where another model took over. controls: its own, in the order of offsets. Records
    before the first control were used by nothing: they are left out."""
    offsets = [record.offset for record in log]
    bounds = [*np.searchsorted(offsets, [control.from_offset for control in controls]).tolist(), len(log)]
    for number, control in enumerate(controls):
        part = log[bounds[number] : bounds[number + 1]]
        if part:
            yield Stretch(control.value, control.from_offset >= offsets[0], part)


def of_partition(controls: Sequence[Control], partition: int, name: str) -> list[Control]:
    return [control for control in controls if (control.partition, control.name) == (partition, name)]


def _answered(partition: int, noted: NotedBatch, events: Engagements, window: Window) -> Iterator[tuple[int, int]]:
    """The sorted rows whose engagement has a slate, with its offset."""
    for row, offset in enumerate(events.offset[noted.rows].tolist()):
        if (partition, offset) in window.slates:
            yield row, offset


def _by_partition(log: Sequence[LogRecord]) -> Mapping[int, list[LogRecord]]:
    """In the order of offsets."""
    found: dict[int, list[LogRecord]] = {}
    for record in sorted(log, key=lambda record: (record.partition, record.offset)):
        found.setdefault(record.partition, []).append(record)
    return found
