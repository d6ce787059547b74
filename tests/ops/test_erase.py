"""`headgate erase` step by step: who is erased goes from every table, others stay, and what is cut off has changed
nothing, or is finished by the next run."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import text
from typer.testing import CliRunner

from models.residents import Changes, Packed
from ops.cli import cli
from ops.jobs.erase import Erased, ErasureRefused, ErasureUnfinished, erase
from ops.redis_settings import redis_views
from ops.settings import Settings
from storage.alert_history import next_alert_sequence
from storage.audit import audit_entries
from storage.database import Database, open_database, upgrade
from storage.progress import Advance, Claim, advance, claim_cursor, claim_partitions, move_cursor
from storage.redis_views import AlertView, SlateView
from storage.snapshots import Manifest, SnapshotFiles, latest_snapshots, publish_snapshot, segment_name
from storage.tables import Base
from streams.erasing import SnapshotEraser
from streams.state_codec import ActiveFrom, Arrays, changes_of, segment_arrays, without_entities
from tests.storage.rows import NOON, RowMaker

ROWS = np.dtype([("events", "int64")])
SNAPSHOT_OFFSET = 1_000


def packed(*ids: str) -> Packed:
    numbers = np.arange(len(ids), dtype=np.int64)
    rows = numbers.view(ROWS)
    return Packed(ids, numbers, rows, np.ones((len(ids), 2), np.float32), np.ones(len(ids), np.bool_))


def arrays_of(ids: tuple[str, ...], gone: tuple[str, ...] = ()) -> Arrays:
    changes = Changes({"accounts": packed(*ids), "merchants": packed("m1")}, {"accounts": gone})
    return segment_arrays(changes, ActiveFrom("detector:1", 0))


@dataclass(frozen=True)
class Place:
    """A database, a Redis and a folder of snapshots that know a1 and a2, u1 and u2."""

    settings: Settings
    database: Database
    client: "redis.Redis"
    files: SnapshotFiles

    def erase(self, kind: Any = "account", entity: str = "a1", **more: Any) -> Erased:
        return erase(self.settings, self.database, kind, entity, clock=lambda: NOON, wait_seconds=0, **more)

    def counts(self) -> dict[str, int]:
        with self.database.reading() as connection:
            return {
                table: connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
                for table in Base.metadata.tables
            }

    def epoch(self, topic: str = "transactions") -> int:
        with self.database.reading() as connection:
            found = connection.execute(text("SELECT epoch FROM stream_progress WHERE topic = :t"), {"t": topic})
            return int(found.scalar_one())

    def resident(self) -> list[str]:
        """Who is in the snapshot that a worker would begin with."""
        with self.database.reading() as connection:
            (record,) = latest_snapshots(connection, 1, 0, SNAPSHOT_OFFSET)
        manifest = self.files.read_manifest(record.path, record.sha256)
        kinds = {"accounts": ROWS, "merchants": ROWS}
        segments = [changes_of(self.files.read_segment(1, 0, one), kinds)[0] for one in manifest.segments]
        return [entity for changes in segments for entity in changes.entities["accounts"].ids]

    def mentions(self, name: str) -> list[str]:
        """Tables with a row that shows it as a word."""
        found, word = [], re.compile(rf"(?<!\w){name}(?!\w)")
        with self.database.reading() as connection:
            for table in Base.metadata.sorted_tables:
                if any(word.search(repr(tuple(row))) for row in connection.execute(table.select())):
                    found.append(table.name)
        return found


def claim(database: Database, topic: str) -> Any:
    return claim_partitions(
        database, topic=topic, topic_uuid=topic, start_offsets={0: 0}, owner="w", backend_pid=None, now=NOON
    )[0]


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> Iterator[Place]:
    url = f"sqlite:///{tmp_path / 'sql'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    upgrade(url)
    settings = Settings(
        database=SecretStr(url), redis=SecretStr(redis_url), state=str(tmp_path / "states"), _env_file=None
    )
    database, client = open_database(url), redis.Redis.from_url(redis_url)
    place = Place(settings, database, client, SnapshotFiles(settings.state))
    fill(place)
    yield place
    client.close()
    database.engine.dispose()


def fill(place: Place) -> None:
    rows, views = RowMaker(place.database), redis_views(place.settings)
    owned = claim(place.database, "transactions")  # generation 1
    claim(place.database, "engagements")  # generation 2
    claim(place.database, "feedback")  # generation 3
    with place.database.begin() as connection:
        advance(connection, [Advance(1, 0, owned.epoch, 0, SNAPSHOT_OFFSET, applied=SNAPSHOT_OFFSET)], NOON)
    for account in ("a1", "a2"):
        rows.scored(f"e-{account}", account_id=account, flagged=True, alert_id=f"A-{account}")
        rows.alert(f"A-{account}", [f"e-{account}"], account_id=account)
        rows.label(f"l-{account}", event_id=f"e-{account}", entity_id=account, topic_generation=3)
        rows.label(f"x-{account}", alert_id=f"A-{account}", entity_id="somebody", topic_generation=3)
        rows.dead_letter(record_key=account.encode(), payload=b'{"account_id": "%b"}' % account.encode())
        views.publish_alerts([AlertView(f"A-{account}", 1, account, 0.9, b'{"account_id": "%b"}' % account.encode())])
    for user in ("u1", "u2"):
        rows.slate(f"R-{user}", user_id=user, topic_generation=2)
        rows.engagement(f"v-{user}", user_id=user, topic_generation=2)
        reward = {"kind": "reward", "value": 1.0, "item_id": "i1", "recommendation_id": f"R-{user}"}
        rows.label(f"r-{user}", None, entity_id=user, topic_generation=3, **reward)
        views.publish_slates([SlateView(user, b"{}")])
    write_snapshot(place, owned.epoch, arrays_of(("a1", "a2"), ("a3",)), arrays_of(("a4",), ("a1",)))


def write_snapshot(place: Place, epoch: int, *segments: Arrays) -> None:
    names = [segment_name(epoch, SNAPSHOT_OFFSET, f"{part}-0") for part in ("base", "delta")]
    refs = tuple(
        place.files.write_segment(1, 0, name, arrays, rows=1) for name, arrays in zip(names, segments, strict=True)
    )
    manifest = Manifest(1, 0, epoch, SNAPSHOT_OFFSET, "transactions", "layout", "detector:1", 0, refs)
    written = place.files.write_manifest(manifest)
    with place.database.begin() as connection:
        assert publish_snapshot(connection, manifest, written.path, written.sha256, NOON)


def test_an_account_goes_from_every_table_from_snapshots_and_redis_and_others_stay(place: Place) -> None:
    before, names, found = place.counts(), place.mentions("a2"), place.erase()
    assert place.mentions("a1") == []
    assert place.mentions("a2") == names
    gone = {table: before[table] - count for table, count in place.counts().items() if count < before[table]}
    assert gone == {table: count for table, count in found.rows.items() if count}
    assert gone == {"transactions": 1, "predictions": 1, "alerts": 1, "feedback": 2, "dead_letters": 1}
    assert place.resident() == ["a2", "a4"]
    assert (found.snapshots, found.files) == (1, 3), "the manifest and both segments of before are no more"
    assert place.client.exists("headgate:risk:a1", "headgate:alert:A-a1") == 0
    assert place.client.exists("headgate:risk:a2", "headgate:alert:A-a2") == 2
    assert [fields[b"alert_id"] for _, fields in place.client.xrange("headgate:alerts")] == [b"A-a2"]
    with place.database.reading() as connection:
        ((_, entry),) = audit_entries(connection, limit=10)
    assert (entry.action, entry.subject) == ("subject.erase", f"account:{found.subject}")
    assert entry.detail["rows"] == found.rows
    assert found.subject == f"sha256:{sha256(b'a1').hexdigest()}"


def test_a_user_goes_with_slates_and_rewards(place: Place) -> None:
    before, found = place.counts(), place.erase("user", "u1")
    assert (place.mentions("u1"), place.mentions("R-u1")) == ([], [])
    gone = {table: before[table] - count for table, count in place.counts().items() if count < before[table]}
    assert gone == {"engagements": 1, "recommendations": 1, "recommendation_items": 2, "feedback": 1}
    assert (found.redis, place.client.exists("headgate:recs:u1"), place.client.exists("headgate:recs:u2")) == (1, 0, 1)
    assert (place.epoch("engagements"), place.epoch()) == (2, 1)


def test_an_erasure_that_is_cut_off_has_changed_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    before, epoch, resident = place.counts(), place.epoch(), place.resident()

    def killed(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(SnapshotEraser, "rewrite", killed)
        with pytest.raises(KeyboardInterrupt):
            place.erase()
    assert (place.counts(), place.epoch(), place.resident()) == (before, epoch, resident)
    place.erase()
    assert place.mentions("a1") == []


def test_what_was_cut_off_after_the_commit_is_finished_by_the_next_run(place: Place) -> None:
    def killed(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        erase(place.settings, place.database, "account", "a1", clock=lambda: NOON, wait_seconds=10, sleep=killed)
    assert place.client.exists("headgate:risk:a1") == 1
    again = place.erase()
    assert (sum(again.rows.values()), again.partitions) == (0, [])
    assert (again.redis, again.files) == (3, 3)
    assert place.client.exists("headgate:risk:a1") == 0


def test_where_redis_does_not_answer_the_command_says_what_is_left_to_do(place: Place) -> None:
    away = place.settings.model_copy(update={"redis": SecretStr("redis://:canary-secret@127.0.0.1:9/0")})
    with pytest.raises(ErasureUnfinished, match=r"Redis may still know the account.*run the command again") as found:
        erase(away, place.database, "account", "a1", clock=lambda: NOON, wait_seconds=0)
    assert "canary-secret" not in str(found.value)
    assert place.mentions("a1") == []
    assert place.erase().redis == 3


def test_a_second_erasure_finds_nothing_and_disturbs_nobody(place: Place) -> None:
    place.erase()
    epoch, again = place.epoch(), place.erase()
    assert (sum(again.rows.values()), again.snapshots, again.redis) == (0, 0, 0)
    assert place.epoch() == epoch


def test_an_account_that_a_snapshot_alone_knows_is_erased(place: Place) -> None:
    found = place.erase(entity="a4")
    assert (found.snapshots, found.partitions, place.resident()) == (1, ["transactions/0"], ["a1", "a2"])


def test_nobody_is_erased_while_snapshots_cannot_be_reached(place: Place) -> None:
    before = place.counts()
    Path(place.settings.state).rename(f"{place.settings.state}-elsewhere")
    with pytest.raises(ErasureRefused, match="a snapshot may hold the account"):
        place.erase()
    assert place.counts() == before


def test_an_owner_that_was_fenced_names_no_snapshot(place: Place) -> None:
    """What it still holds of the erased account must not come back."""
    place.erase()
    with pytest.raises(AssertionError):
        write_snapshot(place, 1, arrays_of(("a1",)), arrays_of(()))
    assert place.resident() == ["a2", "a4"]


def test_an_id_within_a_longer_one_is_somebody_else_s(place: Place) -> None:
    rows = RowMaker(place.database)
    rows.dead_letter(record_key=b"a1-b", payload=b'{"account_id": "xa1"}', topic_generation=7)
    place.erase()
    assert place.mentions("a1-b") == ["dead_letters"]


def test_an_alert_after_the_erasure_of_the_newest_is_published(place: Place) -> None:
    """Its sequence may not be one that a sink has passed."""
    with place.database.begin() as connection:
        following = next_alert_sequence(connection, 1, 0)
        owned = Claim("transactions", 1, 0, 1, SNAPSHOT_OFFSET)
        assert claim_cursor(connection, "alerts", "kafka", owned, NOON) == 0
        assert move_cursor(connection, "alerts", "kafka", owned, following, NOON)
    place.erase()
    place.erase(entity="a2")
    with place.database.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM alerts")).scalar() == 0
        assert next_alert_sequence(connection, 1, 0) == following


@given(st.lists(st.sampled_from("abcdef"), unique=True), st.lists(st.sampled_from("abcdef"), unique=True))
def test_a_segment_without_some_entities_has_all_others_as_they_were(ids: list[str], gone: list[str]) -> None:
    arrays = arrays_of(tuple(ids), tuple(gone))
    rest = without_entities(arrays, "accounts", {"a", "b"})
    if not {"a", "b"} & {*ids, *gone}:
        assert rest is None
        return
    kinds = {"accounts": ROWS, "merchants": ROWS}
    assert rest is not None
    found, whole = changes_of(rest, kinds)[0], changes_of(arrays, kinds)[0]
    kept = [entity for entity in ids if entity not in "ab"]
    assert list(found.entities["accounts"].ids) == kept
    assert list(found.gone["accounts"]) == [entity for entity in gone if entity not in "ab"]
    expected = whole.entities["accounts"].take(np.array([ids.index(entity) for entity in kept], np.int64))
    for name in ("touched", "rows", "hidden", "current"):
        assert (getattr(found.entities["accounts"], name) == getattr(expected, name)).all()
    assert list(found.entities["merchants"].ids) == ["m1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["erase"], "name one of --account and --user"),
        (["erase", "--account", "a", "--user", "b"], "name one of --account and --user"),
        (["erase", "--account", "a"], "nobody was erased; --yes does it without asking"),
        (["pseudonym", "--account", "a"], "HEADGATE_PSEUDONYM_KEYS is empty"),
    ],
)
def test_a_mistake_is_one_line_and_erases_nobody(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 1
    assert said in done.output + capfd.readouterr().err
