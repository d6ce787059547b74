"""`headgate erase` and `headgate pseudonym`: what concerns one account or one user by name."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ops.terminal import Json, fail, load_settings, print_json

if TYPE_CHECKING:
    from ops.jobs.erase import Erased, Kind

Account = Annotated[str | None, typer.Option("--account", help="An account_id.")]
User = Annotated[str | None, typer.Option("--user", help="A user_id.")]


def erase(
    account: Account = None,
    user: User = None,
    wait: Annotated[
        float, typer.Option(min=0, max=600, help="Seconds to wait for running workers to have forgotten.")
    ] = 20.0,
    yes: Annotated[bool, typer.Option("--yes", help="Without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Forget an account or a user: in SQL, snapshots, running workers and Redis. It cannot be undone."""
    from ops.clock import utc_now
    from ops.jobs.erase import erase as forget
    from storage.database import open_database

    kind, entity = _who(account, user)
    settings = load_settings()
    if not yes and not _confirmed(kind):
        fail("nobody was erased; --yes does it without asking")
    database = open_database(settings.database.get_secret_value())
    found = forget(settings, database, kind, entity, clock=utc_now, wait_seconds=wait)
    if as_json:
        print_json(found.summary())
    else:
        print("\n".join(in_words(found)))


def pseudonym(account: Account = None, user: User = None, as_json: Json = False) -> None:
    """What an account or a user is called in SQL, Redis and alerts, under each of HEADGATE_PSEUDONYM_KEYS."""
    _, entity = _who(account, user)
    pseudonyms = load_settings().pseudonyms
    if pseudonyms is None:
        fail("HEADGATE_PSEUDONYM_KEYS is empty: ids are kept in clear")
    found = pseudonyms.under_every_key(entity)
    if as_json:
        print_json({"current": found[0], "earlier": found[1:]})
    else:
        print("\n".join(found))


def in_words(found: "Erased") -> list[str]:
    rows = ", ".join(f"{count} of {table}" for table, count in found.rows.items() if count) or "none"
    lines = [
        f"{found.kind} {found.subject} is forgotten",
        f"rows removed: {rows}",
        f"snapshots written anew: {found.snapshots}; files removed: {found.files}; in Redis: {found.redis}",
    ]
    if found.unclaimed:
        lines.append(
            f"no worker took {', '.join(found.unclaimed)} in time: one that still runs forgets when it does; "
            "run the command again then, as it may have written to Redis meanwhile"
        )
    return lines


def _who(account: str | None, user: str | None) -> "tuple[Kind, str]":
    if account and not user:
        return "account", account
    if user and not account:
        return "user", user
    fail("name one of --account and --user")


def _confirmed(kind: str) -> bool:
    if not sys.stdin.isatty():
        return False
    return typer.confirm(f"Everything that is known of this {kind} will be gone. Go on?", err=True)
