"""A worker that hangs is told from one that waits."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from streams.health import FlowMetrics
from streams.kafka import KafkaUnavailable
from streams.ownership import TopicPartition
from streams.watchdog import PATIENCE, RESTORE_PATIENCE, Memory, Progress, Reading, Watchdog, judged

PLACE = ("t", 0)
STUCK = Progress(committed=100, fetched=150, reached=150)
UNFETCHED = Progress(committed=100, fetched=100, reached=100)


def reading(at: float, progress: Progress = STUCK, end: int = 200, **more: Any) -> Reading:
    values: dict[str, Any] = {"ends": {PLACE: end}, "database_failures": 0, "restoring": {}}
    return Reading(at, True, {PLACE: progress}, **(values | more))


def hangs(*readings: Reading) -> list[str]:
    """What hangs at the last of them."""
    memory: Memory | None = None
    found: list[str] = []
    for one in readings:
        memory, found = judged(memory, one)
    return found


def every(seconds: float, until: float) -> list[float]:
    return [number * seconds for number in range(int(until / seconds) + 1)]


def test_what_was_fetched_and_never_gets_into_sql_hangs_after_a_while() -> None:
    assert hangs(*(reading(at) for at in every(5, PATIENCE - 5))) == []
    (found,) = hangs(*(reading(at) for at in every(5, PATIENCE)))
    assert found == "t/0: SQL stays at offset 100, although records before 150 were fetched, for 120 s"


def test_what_has_stood_for_a_shorter_while_is_named_with_what_hangs() -> None:
    """The first of two partitions got its only batch to the stuck thread one look after the watch began."""
    batch, behind, moving = ("t", 0), ("t", 1), ("t", 2)
    readings = [
        replace(
            reading(at),
            partitions={
                batch: Progress(0, 0 if at == 0 else 4, 0 if at == 0 else 4),
                behind: Progress(0, 0, 0),
                moving: Progress(int(at), 200, 200),
            },
            ends={batch: 4, behind: 16, moving: 200},
        )
        for at in every(5, PATIENCE)
    ]
    assert hangs(*readings) == [
        "t/0: SQL stays at offset 0, although records before 4 were fetched, for 115 s",
        "t/1: nothing is fetched from offset 0 on, although the log ends at 16, for 120 s",
    ]


def test_more_that_is_fetched_does_not_hide_that_nothing_gets_into_sql() -> None:
    assert hangs(*(reading(at, Progress(100, 150 + int(at), 150 + int(at))) for at in every(5, PATIENCE)))


DONE = Progress(200, 200, 200)


def test_a_group_s_member_that_has_no_turn_any_more_hangs_though_everything_is_read() -> None:
    assert hangs(*(reading(at, DONE, turns=7) for at in every(5, PATIENCE - 5))) == []
    (found,) = hangs(*(reading(at, DONE, turns=7) for at in every(5, PATIENCE)))
    assert found == "the consumer group's member has had no turn for 120 s"


@pytest.mark.parametrize(
    "more",
    [
        lambda at: {"turns": int(at)},
        lambda at: {"turns": None},
        lambda at: {"turns": 7, "database_failures": int(at)},
        lambda at: {"turns": 7 + int(at > 60)},
    ],
    ids=["it has turns", "nothing is to be read", "the database is away", "it had one meanwhile"],
)
def test_a_group_s_member_that_has_turns_or_waits_does_not_hang(more: Any) -> None:
    assert hangs(*(reading(at, DONE, **more(at)) for at in every(5, PATIENCE + 30))) == []


def test_what_nobody_fetches_hangs_after_a_while() -> None:
    assert hangs(*(reading(at, UNFETCHED) for at in every(5, PATIENCE - 5))) == []
    (found,) = hangs(*(reading(at, UNFETCHED) for at in every(5, PATIENCE)))
    assert found == "t/0: nothing is fetched from offset 100 on, although the log ends at 200, for 120 s"


@pytest.mark.parametrize(
    "progress",
    [
        lambda at: Progress(100 + int(at), 150 + int(at), 150 + int(at)),
        lambda at: Progress(100 + int(at // 60), 1_000, 1_000),
        lambda at: Progress(200, 200, 200),
        lambda at: Progress(190, 190, 200),
    ],
    ids=["a stream that moves", "one that moves slowly", "one that has nothing to do", "offsets without a record"],
)
def test_a_worker_that_moves_or_has_nothing_to_do_does_not_hang(progress: Any) -> None:
    assert hangs(*(reading(at, progress(at)) for at in every(5, 5 * PATIENCE))) == []


def test_a_partition_that_waits_for_its_turn_once_has_its_time_from_then_on() -> None:
    idle = [reading(at, UNFETCHED, end=100) for at in every(5, 10 * PATIENCE)]
    begins = idle[-1].at
    assert hangs(*idle, *(reading(begins + at, UNFETCHED) for at in every(5, PATIENCE - 10))) == []


@pytest.mark.parametrize(
    "excuse",
    [
        lambda at: {"database_failures": int(at // 10)},
        lambda at: {"ends": None},
        lambda at: {"restoring": {"t": 0}},
    ],
    ids=["the database is away", "no broker answers", "state is restored"],
)
def test_waiting_is_no_hanging_however_long_and_the_time_begins_when_it_ends(excuse: Any) -> None:
    waiting = [reading(at, **excuse(at)) for at in every(5, 10 * PATIENCE)]
    assert hangs(*waiting) == []
    ended = replace(waiting[-1], ends={PLACE: 200}, restoring={})
    after = [replace(ended, at=ended.at + 5 + at) for at in every(5, PATIENCE)]
    assert hangs(*waiting, *after[:-2]) == []
    assert hangs(*waiting, *after) != []


def test_a_restore_is_waited_for_as_long_as_it_folds_events_and_an_hour_beyond() -> None:
    moving = [reading(at, restoring={"t": int(at // 900)}) for at in every(5, 3 * RESTORE_PATIENCE)]
    assert hangs(*moving) == []
    last = moving[-1]
    stuck = [replace(last, at=last.at + 5 + at) for at in every(5, RESTORE_PATIENCE + PATIENCE)]
    assert hangs(*moving, *(one for one in stuck if one.at - last.at < RESTORE_PATIENCE)) == []
    assert hangs(*moving, *stuck)


def test_the_restore_of_another_topic_is_no_excuse_and_one_that_folds_nothing_is_none_for_ever() -> None:
    assert hangs(*(reading(at, restoring={"other": int(at)}) for at in every(5, PATIENCE)))
    assert hangs(*(reading(at, restoring={"t": 7}) for at in every(5, RESTORE_PATIENCE + PATIENCE)))


def test_a_process_that_was_frozen_itself_gets_its_time_anew() -> None:
    before = [reading(at) for at in every(5, 60)]
    assert hangs(*before, reading(1_000)) == []
    assert hangs(*before, *(reading(1_000 + at) for at in every(5, PATIENCE)))


def test_a_rebalance_that_does_not_end_hangs_unless_somebody_has_to_be_waited_for() -> None:
    def rebalancing(at: float, **more: Any) -> Reading:
        return replace(reading(at, **more), settled=False, partitions={})

    (found,) = hangs(*map(rebalancing, every(5, PATIENCE)))
    assert found == "a rebalance did not end for 120 s"
    assert hangs(*(rebalancing(at, ends=None) for at in every(5, 5 * PATIENCE))) == []
    assert hangs(*(rebalancing(at, database_failures=int(at)) for at in every(5, 5 * PATIENCE))) == []
    ended = [*map(rebalancing, every(5, PATIENCE - 5)), reading(PATIENCE), rebalancing(PATIENCE + 5)]
    assert hangs(*ended) == []


def test_one_partition_that_hangs_is_named_beside_others_that_move() -> None:
    def both(at: float) -> Reading:
        moving = Progress(int(at), int(at) + 10, int(at) + 10)
        return replace(reading(at), partitions={("t", 1): moving, PLACE: STUCK})

    (found,) = hangs(*(both(at) for at in every(5, PATIENCE)))
    assert found.startswith("t/0: ")


class Broker:
    def __init__(self, end: int | None = 200) -> None:
        self.end = end
        self.asked: list[list[TopicPartition]] = []

    def answers(self) -> bool:
        return self.end is not None

    def ends(self, places: list[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.asked.append(places)
        if self.end is None:
            raise KafkaUnavailable("away")
        return dict.fromkeys(places, self.end)


def watched(progress: Progress | None, broker: Broker, *, database_answers: bool = True) -> list[str]:
    """How the process ends that a watchdog looks at for three minutes."""
    ends: list[str] = []
    times, turns = iter(every(5, 180)), itertools.count()
    broker_like: Any = broker
    watchdog = Watchdog(
        lambda: None if progress is None else {PLACE: progress},
        lambda: next(turns),
        broker_like,
        lambda: database_answers,
        ends.append,
        FlowMetrics(),
        lambda: next(times),
    )
    for _ in range(30):
        watchdog.look()
    return ends


def test_the_watchdog_ends_the_process_with_what_hangs() -> None:
    ends = watched(STUCK, Broker())
    assert ends[0].startswith("the worker hangs and ends itself, to be started again: t/0: SQL stays at offset 100")
    assert watched(UNFETCHED, Broker())
    assert watched(None, Broker()) != []


def test_the_watchdog_waits_for_a_broker_and_for_a_database_that_keeps_silent() -> None:
    assert watched(UNFETCHED, Broker(None)) == []
    assert watched(None, Broker(None)) == []
    assert watched(STUCK, Broker(), database_answers=False) == []


def test_kafka_is_asked_only_where_nothing_is_on_its_way() -> None:
    broker = Broker()
    watched(STUCK, broker)
    assert set(map(tuple, broker.asked)) == {()}
    watched(UNFETCHED, broker)
    assert broker.asked[-1] == [PLACE]
