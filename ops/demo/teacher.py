"""Retraining of the recommender during the demo, again and again: lesson.py as a process of its own.

A first policy seldom has enough evidence within a minute, and there is nothing that it could be worse than but what is
popular; so the demo makes it champion without. Every later one must prove itself.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from ops.clock import utc_now
from ops.demo.prepare import MADE_BY_DEMO
from ops.model_registry import open_registry
from ops.service import LOOPBACK, ServerCommand, Service, free_port, start_service
from ops.settings import Settings
from storage.database import Database, DatabaseUnavailable
from streams.policy_watch import POLICY_NAME

#: Seconds of live slates before the first lesson, and between the end of one and the next.
FIRST_LESSON, BETWEEN_LESSONS = 20.0, 20.0
LONGEST_NOTE = 100
LESSON = (sys.executable, "-m", "ops.demo.lesson")


class Teacher:
    """`look` is called often and never waits. clock in seconds."""

    def __init__(self, settings: Settings, database: Database, folder: Path, clock: Callable[[], float]) -> None:
        self.lessons = 0
        #: How it stands, for the view.
        self.note = "collects slates"
        self._settings = settings
        self._registry = open_registry(settings, database)
        self._folder = folder
        self._clock = clock
        self._next_at = clock() + FIRST_LESSON
        self._lesson: Service | None = None

    def look(self) -> None:
        if self._lesson is None:
            if self._clock() >= self._next_at:
                self._begin()
        elif not self._lesson.running:
            self._end(self._lesson)

    def close(self) -> None:
        if self._lesson is not None:
            self._lesson.stop()

    def _begin(self) -> None:
        self.lessons += 1
        self.note = "learns"
        folder = self._folder / f"lesson-{self.lessons}"
        folder.mkdir()
        command = ServerCommand(
            name="retrain",
            arguments=LESSON,
            folder=folder,
            port=free_port(),
            url=LOOPBACK,
            probe=lambda: None,
            environment=self._settings.environment(),
        )
        self._lesson = start_service(command)

    def _end(self, lesson: Service) -> None:
        self.note = outcome_of(lesson.command.log)
        with suppress(DatabaseUnavailable):
            self._promote_first()
        lesson.stop()
        self._lesson = None
        self._next_at = self._clock() + BETWEEN_LESSONS

    def _promote_first(self) -> None:
        if self._registry.champion(POLICY_NAME) is None:
            own = [record for record in self._registry.list() if record.name == POLICY_NAME]
            if own:
                self._registry.promote(POLICY_NAME, own[0].version, MADE_BY_DEMO, utc_now)
                self.note = f"{own[0]}: the first policy"


def outcome_of(log: Path) -> str:
    """What the last line of a retraining's log says: its JSON in short, or why it was refused."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    last = lines[-1] if lines else "it said nothing"
    with suppress(msgspec.DecodeError, KeyError, TypeError):
        found: Any = msgspec.json.decode(last)
        return f"{found['challenger']}: {found['decision']}"
    return last.removeprefix("headgate: ")[:LONGEST_NOTE]
