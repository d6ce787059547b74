"""Lessons during the demo: when they begin, and what becomes of the first policy."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.clock import utc_now
from ops.demo import teacher
from ops.demo.prepare import MADE_BY_DEMO
from ops.demo.teacher import BETWEEN_LESSONS, FIRST_LESSON, LONGEST_NOTE, Teacher, outcome_of
from ops.settings import Settings
from storage.database import Database, open_database
from storage.registry import ModelRegistry
from streams.policy_watch import POLICY_KIND, POLICY_NAME
from tests.deployment import wait_until

REFUSES = (sys.executable, "-c", "print('too little to learn from')")


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def database(sqlite_url: str) -> Database:
    return open_database(sqlite_url)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def taught(tmp_path: Path, database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Teacher]:
    """Its lessons end at once."""
    monkeypatch.setattr(teacher, "LESSON", REFUSES)
    own = Teacher(Settings(models=str(tmp_path / "models")), database, tmp_path, clock)
    yield own
    own.close()


def registered(tmp_path: Path, database: Database) -> ModelRegistry:
    """With a challenger and no champion, as a retraining without enough evidence leaves it."""
    registry = ModelRegistry(database, str(tmp_path / "models"))
    registry.register(
        POLICY_NAME, POLICY_KIND, b"policy", feature_schema=1, metrics={}, clock=utc_now, alias="challenger"
    )
    return registry


def lesson_over(taught: Teacher) -> bool:
    taught.look()
    return taught.note != "learns"


@pytest.mark.timeout(120)
def test_lessons_follow_one_another_with_pauses(taught: Teacher, clock: Clock) -> None:
    taught.look()
    assert (taught.lessons, taught.note) == (0, "collects slates")
    clock.seconds = FIRST_LESSON
    taught.look()
    assert (taught.lessons, taught.note) == (1, "learns")
    wait_until("the lesson is over", lambda: lesson_over(taught), 60)
    taught.look()
    assert (taught.lessons, taught.note) == (1, "too little to learn from")
    clock.seconds += BETWEEN_LESSONS
    taught.look()
    assert taught.lessons == 2


@pytest.mark.timeout(120)
def test_the_first_policy_becomes_champion_without_evidence_and_later_ones_do_not(
    tmp_path: Path, database: Database, taught: Teacher, clock: Clock
) -> None:
    registry = registered(tmp_path, database)
    for _ in range(2):
        clock.seconds += max(FIRST_LESSON, BETWEEN_LESSONS)
        taught.look()
        wait_until("the lesson is over", lambda: lesson_over(taught), 60)
        registered(tmp_path, database)

    champion = registry.champion(POLICY_NAME)
    assert champion is not None
    assert (champion.version, champion.promoted_why) == (1, MADE_BY_DEMO)


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ('{"other": 1}\n{"challenger": "recommender:2", "decision": "promote"}\n', "recommender:2: promote"),
        ("warning\nheadgate: 3 slates are too few\n", "3 slates are too few"),
        ("7\n", "7"),
        ("", "it said nothing"),
        ("x" * 500, "x" * LONGEST_NOTE),
    ],
)
def test_the_last_line_says_how_a_lesson_ended(tmp_path: Path, log: str, said: str) -> None:
    (tmp_path / "log").write_text(log)
    assert outcome_of(tmp_path / "log") == said


def test_a_lesson_without_a_log_said_nothing(tmp_path: Path) -> None:
    assert outcome_of(tmp_path / "none") == "it said nothing"
