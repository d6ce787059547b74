"""What a worker scores live, with labels that came through Kafka, equals what the code of a backtest says of the same
events and labels: 50,000 events, three versions of what labels say."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from models.artifact import TrainedDetector
from models.events import Events
from models.labels import LabelledHistory, LabelRelease, milliseconds, version_batches
from models.scoring import Scorer
from streams.label_versions import make_version, moment_of
from tests.deployment import Deployment, WorkerProcess, wait_until
from tests.flow_fixtures import Deploy
from tests.fraud_model import transaction
from tests.models.synthetic import history
from tests.offline import Place, greatest_difference, live_scores, stored_events
from tests.streams.label_history import DAY, HORIZON, HOUR

TOLERANCE = 1e-4
HISTORY, EACH_HOUR = 30_000, 10_000
EVENTS = HISTORY + 2 * EACH_HOUR
KNOWN_AT = "headgate_labels_known_at_seconds"

#: (event_id, label, given_at)
Label = tuple[str, str, int]


def traffic(hour: int) -> tuple[Events, npt.NDArray[np.int8]]:
    """A history of a little less than the label horizon, which has matured an hour after `hour`, then events of that
    hour and of the next; which of them are frauds."""
    past, draw = history(EVENTS, accounts=900, merchants=60, seed=8, frauds=0.03), np.random.default_rng(8)
    horizon, rows = milliseconds(HORIZON), np.arange(EVENTS)
    spans = (
        (hour - 2 * horizon + DAY // 4, hour - horizon, HISTORY),
        (hour + HOUR, hour + 2 * HOUR, EACH_HOUR),
        (hour + 2 * HOUR, hour + 3 * HOUR, EACH_HOUR),
    )
    times = np.concatenate([np.sort(draw.integers(*span)) for span in spans])
    return replace(past.events.take(rows), occurred_at=times), past.labels[rows]


def verdicts(events: Events, fraud: npt.NDArray[np.int8], hour: int) -> tuple[list[Label], list[Label]]:
    """On the history: labels by maturity, contradicting ones among them, and frauds that are reported in the hour
    before the last version."""
    draw, early, late = np.random.default_rng(9), [], []
    for row in np.flatnonzero((fraud[:HISTORY] == 1) | (draw.random(HISTORY) < 0.01)).tolist():
        name, time_of = events.event_id[row], int(events.occurred_at[row])
        kind = draw.integers(4) if fraud[row] else 4
        if kind < 3:
            early.append((name, "fraud", time_of + 5 * DAY))
        if kind == 0:
            early.append((name, "legitimate", time_of + DAY))
        elif kind == 3:
            late.append((name, "fraud", int(draw.integers(hour + HOUR, hour + 2 * HOUR))))
        elif kind == 4:
            early.append((name, "legitimate", time_of + 2 * DAY))
    return early, late


def send_events(deployment: Deployment, events: Events) -> None:
    producer = deployment.producer(**{"queue.buffering.max.messages": 200_000})
    for row in range(len(events)):
        names = ("merchant_id", "channel", "country", "category", "memo")
        more = {name: getattr(events, name)[row] for name in names if getattr(events, name)[row] is not None}
        key, value = transaction(
            events.event_id[row],
            events.account_id[row],
            int(events.occurred_at[row]),
            float(events.amount[row]),
            **more,
        )
        producer.produce(deployment.transactions, key=key, value=value)
    assert producer.flush(60) == 0


def send_labels(deployment: Deployment, labels: Sequence[Label], sent: int) -> None:
    """Until all of them are joined; sent: before these."""
    producer = deployment.producer()
    for number, (event_id, label, given_at) in enumerate(labels, sent):
        fields = {"feedback_id": f"f{number}", "given_at": given_at, "kind": "label", "event_id": event_id}
        producer.produce(deployment.feedback, key=b"a", value=msgspec.json.encode(fields | {"label": label}))
    assert producer.flush(30) == 0
    joined = "SELECT count(*) FROM feedback WHERE status = 'joined'"
    wait_until("the labels are joined", lambda: deployment.value(joined) == sent + len(labels))


def bring_up_to_date(deployment: Deployment, worker: WorkerProcess, at: int) -> None:
    """Has the version of a full hour made and waits until the worker has it."""
    assert make_version(deployment.database, moment_of(at), HORIZON) is not None
    wait_until("the worker has the version", lambda: worker.metrics().get(KNOWN_AT) == at / 1000)


def scores_of_a_release(
    model: bytes, events: Events, labels: Mapping[str, tuple[int, int]], until: int
) -> dict[Place, float]:
    """The code of a backtest over the events in the order of time, with a version at each full hour. labels: event ->
    (when the newest was given, 1 for fraud)."""
    order = np.lexsort((events.offset, events.occurred_at))
    events = events.take(order)
    given = np.array([labels.get(name, (0, -1)) for name in events.event_id], np.int64)
    past = LabelledHistory.of(events, given[:, 1].astype(np.int8), now=until, horizon=HORIZON, given_at=given[:, 0])
    release, scorer = LabelRelease(past), Scorer(TrainedDetector.from_bytes(model))
    hour, found = int(events.occurred_at[0]) // HOUR * HOUR, {}
    for rows in version_batches(events.occurred_at, 700):
        while hour <= events.occurred_at[rows[0]]:
            knowledge = release.knowledge(hour)
            hour += HOUR
        scorer.use_labels(knowledge)
        scored = scorer.score(events.take(rows))
        release.note(rows[scored.built.rows], scored.built.unexplained)
        places = zip(events.partition[rows].tolist(), events.offset[rows].tolist(), strict=True)
        found.update(zip(places, scored.score.tolist(), strict=True))
    return found


@pytest.mark.timeout(240)
def test_live_scores_equal_those_of_a_backtest_with_labels_early_late_and_contradicting(
    deploy: Deploy, detector: bytes
) -> None:
    # The versions are those of coming hours, so that the worker finds none due. Their events come as early.
    deployment = deploy(FUTURE_TOLERANCE_SECONDS="86400")
    hour = (round(time.time() * 1000) // HOUR + 1) * HOUR
    events, fraud = traffic(hour)
    early, late = verdicts(events, fraud, hour)
    worker = deployment.worker().wait_ready()
    bring_up_to_date(deployment, worker, hour)

    send_events(deployment, events.take(np.arange(HISTORY)))
    deployment.wait_outcomes(HISTORY)
    send_labels(deployment, early, 0)
    bring_up_to_date(deployment, worker, hour + HOUR)
    send_events(deployment, events.take(np.arange(HISTORY, HISTORY + EACH_HOUR)))
    deployment.wait_outcomes(HISTORY + EACH_HOUR)
    send_labels(deployment, late, len(early))
    bring_up_to_date(deployment, worker, hour + 2 * HOUR)
    send_events(deployment, events.take(np.arange(HISTORY + EACH_HOUR, EVENTS)))
    deployment.wait_outcomes(EVENTS)

    with deployment.database.begin() as connection:
        connection.exec_driver_sql("ANALYZE")  # for the plan of the view that is read now; else it takes a minute
    live, stored = live_scores(deployment), stored_events(deployment)
    assert len(live) == EVENTS
    until = hour + 4 * HOUR
    newest = {name: (at, int(label == "fraud")) for name, label, at in sorted(early + late, key=lambda one: one[2])}
    assert greatest_difference(live, scores_of_a_release(detector, stored, newest, until)) <= TOLERANCE
    # Every version matters, or the comparison would prove nothing.
    for without in ({}, {name: newest[name] for name, _, _ in early}):
        other = scores_of_a_release(detector, stored, without, until)
        assert max(abs(live[place] - other[place]) for place in live) > 0.01
    counted = deployment.sql("SELECT events, frauds, corrections FROM label_versions ORDER BY version")
    assert [tuple(row) for row in counted] == [
        (0, 0, 0),
        (HISTORY, len({name for name, label, _ in early if label == "fraud"}), 0),
        (0, 0, len(late)),
    ]
    used = deployment.sql(
        "SELECT partition, array_agg(value ORDER BY from_offset) FROM stream_controls WHERE name = 'labels' "
        "GROUP BY partition"
    )
    assert sorted(tuple(row) for row in used) == [(0, ["1", "2", "3"]), (1, ["1", "2", "3"])]
