"""Whether the worker hangs: records wait in Kafka, and nothing moves although nobody has to be waited for.

A thread that is stuck or a consumer that quietly stopped cannot mend itself; the process ends, and its supervisor
starts it again, which costs seconds and loses nothing. A database or a broker that is away, a restore that takes long
and a partition that stands still are no reasons: that is waiting.

`judged` decides from what was seen before and what is seen now; `Watchdog` looks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from streams.health import FlowMetrics
from streams.kafka import KafkaUnavailable
from streams.kafka_logs import Broker
from streams.ownership import TopicPartition

log = structlog.get_logger(__name__)

LOOK_SECONDS = 5.0
#: Longer than a rebalance may take (Faust gives it a minute).
PATIENCE = 120.0
#: A restore may take as long as it has to; one that folds no event for this long hangs. Before the first event it may
#: read much of SQL, and a snapshot.
RESTORE_PATIENCE = 3600.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a partition is: SQL's next offset; the one after the last fetched record; and the latest end of its log
    that was reached, which may be beyond that by offsets without a record (the ends of transactions)."""

    committed: int
    fetched: int
    reached: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What is seen at one moment (seconds, monotonic). settled: not in a rebalance. turns: that the group's member has
    had, which it has all the time outside rebalances; None where nothing is to be read. partitions: those of ours that
    are to be read. ends: Kafka's next offsets, None where no broker answers. database_failures: so far. restoring:
    topics of which a partition's state is being restored, with how many events were folded into it."""

    at: float
    settled: bool
    partitions: Mapping[TopicPartition, Progress]
    ends: Mapping[TopicPartition, int] | None
    database_failures: int
    restoring: Mapping[str, int]
    turns: int | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What was seen before. still: since when each partition stands at its place with something to do; waiting: since
    when there is a rebalance; restoring: how many events each restore has folded, and since when no more; turns: how
    many the group's member had, and since when no more."""

    at: float
    database_failures: int
    still: Mapping[TopicPartition, tuple[Progress, float]] = field(default_factory=dict)
    waiting: float | None = None
    restoring: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    turns: tuple[int, float] | None = None


def judged(before: Memory | None, now: Reading, patience: float = PATIENCE) -> tuple[Memory, list[str]]:
    """What to remember, and what hangs, in words; empty where all is well."""
    if before is None or now.at - before.at > patience / 2:  # the process itself was frozen
        before = Memory(now.at, now.database_failures)
    excused = now.ends is None or now.database_failures > before.database_failures
    restoring = {topic: _folded(before.restoring.get(topic), events, now.at) for topic, events in now.restoring.items()}
    at_work = {topic for topic, (_, since) in restoring.items() if now.at - since < RESTORE_PATIENCE}
    waiting = None if now.settled else now.at if excused or before.waiting is None else before.waiting
    still: dict[TopicPartition, tuple[Progress, float]] = {}
    for place, progress in now.partitions.items():
        if progress.committed >= progress.fetched and progress.reached >= _end(place, progress, now):
            continue
        known, since = before.still.get(place, (progress, now.at))
        if excused or place[0] in at_work or _moved(known, progress):
            since = now.at
        still[place] = progress, since
    hangs = _named(still, now, patience)
    if waiting is not None and now.at - waiting >= patience:
        hangs.append(f"a rebalance did not end for {now.at - waiting:.0f} s")
    turns = None if now.turns is None or excused or not now.settled else (now.turns, now.at)
    if turns is not None and before.turns is not None and before.turns[0] == turns[0]:
        turns = before.turns
    if turns is not None and now.at - turns[1] >= patience:
        hangs.append(f"the consumer group's member has had no turn for {now.at - turns[1]:.0f} s")
    memory = Memory(now.at, now.database_failures, still, waiting, restoring, turns)
    return memory, hangs


def _folded(before: tuple[int, float] | None, events: int, at: float) -> tuple[int, float]:
    """How many events a restore has folded, and since when no more."""
    return before if before is not None and before[0] == events else (events, at)


def _moved(before: Progress, now: Progress) -> bool:
    """What was fetched has to get into SQL; where all of it was there, more has to be fetched."""
    if now.committed != before.committed:
        return True
    return before.committed >= before.fetched and (now.fetched, now.reached) != (before.fetched, before.reached)


def _end(place: TopicPartition, progress: Progress, now: Reading) -> int:
    return (now.ends or {}).get(place, progress.reached)


def _named(still: Mapping[TopicPartition, tuple[Progress, float]], now: Reading, patience: float) -> list[str]:
    """Where a partition hangs, all that have stood for half as long are named with it: one whose batch is stuck has
    fetched once more, and so begun to stand later, than one that waits behind it."""
    if all(now.at - since < patience for _, since in still.values()):
        return []
    return [
        _in_words(place, progress, _end(place, progress, now), now.at - since)
        for place, (progress, since) in still.items()
        if now.at - since >= patience / 2
    ]


def _in_words(place: TopicPartition, progress: Progress, end: int, seconds: float) -> str:
    topic, partition = place
    if progress.committed < progress.fetched:
        what = f"SQL stays at offset {progress.committed}, although records before {progress.fetched} were fetched"
    else:
        what = f"nothing is fetched from offset {progress.reached} on, although the log ends at {end}"
    return f"{topic}/{partition}: {what}, for {seconds:.0f} s"


class Watchdog:
    """`look` belongs to a thread of its own. progress: of what is to be read, None in a rebalance; turns: that the
    group's member has had; database_answers: at this moment; end: ends the process with a message."""

    def __init__(
        self,
        progress: Callable[[], Mapping[TopicPartition, Progress] | None],
        turns: Callable[[], int],
        broker: Broker,
        database_answers: Callable[[], bool],
        end: Callable[[str], None],
        metrics: FlowMetrics,
        clock: Callable[[], float],
        patience: float = PATIENCE,
    ) -> None:
        self._progress = progress
        self._turns = turns
        self._broker = broker
        self._database_answers = database_answers
        self._end = end
        self._metrics = metrics
        self._clock = clock
        self._patience = patience
        self._memory: Memory | None = None

    def look(self) -> None:
        progress = self._progress()
        reading = Reading(
            self._clock(),
            progress is not None,
            progress or {},
            self._known_ends(progress),
            self._metrics.database_failures,
            dict(self._metrics.restoring_now),
            self._turns() if progress else None,
        )
        memory, hangs = judged(self._memory, reading, self._patience)
        if hangs and not self._database_answers():  # it accepts connections and is silent: waiting, too
            log.warning("the database does not answer; the stream waits", stands=hangs)
            memory, hangs = Memory(reading.at, reading.database_failures), []
        self._memory = memory
        if hangs:
            self._end("the worker hangs and ends itself, to be started again: " + "; ".join(hangs))

    def _known_ends(self, partitions: Mapping[TopicPartition, Progress] | None) -> Mapping[TopicPartition, int] | None:
        """Asked of Kafka where a partition has nothing on its way to SQL; None where no broker answers."""
        if partitions is None:
            return {} if self._broker.answers() else None
        idle = [place for place, progress in partitions.items() if progress.committed >= progress.fetched]
        try:
            return self._broker.ends(idle)
        except KafkaUnavailable:
            return None
