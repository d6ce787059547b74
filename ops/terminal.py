"""What every command does alike: read the settings, print for a program, end with one line."""

import json
import os
import pwd
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from ops.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]


def fail(message: str) -> NoReturn:
    print(f"headgate: {message}", file=sys.stderr)
    raise SystemExit(1)


def load_settings() -> "Settings":
    import structlog

    from ops.logging import configure_logging
    from ops.settings import read_settings

    settings = read_settings()
    configure_logging(settings.log_level, settings.log_format)
    for path in settings.exposed_files():
        structlog.get_logger(__name__).warning("every user of this machine may read a secret's file", file=str(path))
    return settings


def cli_user() -> str:
    """Who runs a command, for the audit log: the user of the operating system that owns the process, whatever the
    environment says."""
    number = os.getuid()
    try:
        return f"cli:{pwd.getpwuid(number).pw_name}"
    except KeyError:  # as in a container
        return f"cli:{number}"


def plain(text: str) -> str:
    """A text that came from outside as a terminal may show it: what would move the cursor, hide or turn other text
    round is written as an escape."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def print_json(value: Mapping[str, Any]) -> None:
    print(json.dumps(value, default=str))
