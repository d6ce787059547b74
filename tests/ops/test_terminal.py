"""What commands print of texts from outside, and who runs them."""

import os
import pwd

import pytest

from ops import terminal
from ops.terminal import cli_user, plain

#: Clears the screen and writes a line of its own; turns the order of what follows; hides.
SPOOFING = "fine\x1b[2J\x1b[1;1Hroot\r\n\u202egnp.exe\u2066\u200b\x9b31m\0"


@pytest.mark.parametrize("text", ["", "paid to Ünïversum, 12 €", "日本語", "a\\b"])
def test_a_text_is_printed_as_it_is(text: str) -> None:
    assert plain(text) == text


def test_what_would_move_the_cursor_or_turn_other_text_round_is_printed_as_escapes() -> None:
    assert plain(SPOOFING) == r"fine\x1b[2J\x1b[1;1Hroot\r\n\u202egnp.exe\u2066\u200b\x9b31m\x00"


def test_who_runs_a_command_is_who_owns_its_process_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    assert cli_user() == f"cli:{pwd.getpwuid(os.getuid()).pw_name}"


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal.os, "getuid", lambda: 4_000_001)
    assert cli_user() == "cli:4000001"
