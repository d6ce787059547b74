"""Logs: one shape for ours and for libraries', and no password in any of them."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from ops.logging import configure_logging, mask_passwords


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://user:secret@host/name", "postgresql://user:***@host/name"),
        ("cannot reach redis://:secret@host:6379/0 now", "cannot reach redis://:***@host:6379/0 now"),
        (
            "postgresql+psycopg://u:a:b/c@host/n and redis://x:y@z",
            "postgresql+psycopg://u:***@host/n and redis://x:***@z",
        ),
        ("http://host:9092/path", "http://host:9092/path"),
        ("mail me@example.org: now", "mail me@example.org: now"),
    ],
)
def test_passwords_in_urls_are_masked(text: str, masked: str) -> None:
    assert mask_passwords(text) == masked


def test_passwords_are_masked_in_nested_values() -> None:
    assert mask_passwords({"urls": ["redis://:a@h"], "n": 1}) == {"urls": ["redis://:***@h"], "n": 1}


def test_json_logs_are_one_object_a_line_without_passwords(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")

    structlog.get_logger("headgate").warning("waiting", url="redis://:secret@host:6379/0", seconds=2)

    (line,) = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert (event["event"], event["url"], event["seconds"]) == ("waiting", "redis://:***@host:6379/0", 2)
    assert (event["level"], event["logger"]) == ("warning", "headgate")


def test_a_librarys_log_and_traceback_are_masked_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")

    try:
        raise ConnectionError("no answer from postgresql://user:secret@host/name")
    except ConnectionError:
        logging.getLogger("some.library").exception("failed for %s", "redis://:secret@host")

    said = capsys.readouterr().err
    assert "secret" not in said
    event = json.loads(said)
    assert event["event"] == "failed for redis://:***@host"
    assert "no answer from postgresql://user:***@host/name" in event["exception"]


def test_events_below_the_level_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning", "console")

    structlog.get_logger("headgate").info("not this")
    structlog.get_logger("headgate").warning("but this")

    said = capsys.readouterr().err
    assert "but this" in said
    assert "not this" not in said
