"""`headgate prune`: how long SQL keeps what the flow wrote."""

from typing import Annotated

import typer

from ops.terminal import Json, load_settings, print_json


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: Json = False,
) -> None:
    """Remove days that are older than HEADGATE_RETENTION_DAYS and needed neither by recovery nor by training."""
    from ops.clock import utc_now
    from ops.jobs.prune import RetentionRules, in_words, run_prune
    from ops.progress import progress_bar
    from storage.database import open_database
    from storage.snapshots import SnapshotFiles

    settings = load_settings()
    database, files = open_database(settings.database.get_secret_value()), SnapshotFiles(settings.state)
    with progress_bar(as_json or dry_run) as progress:
        result = run_prune(database, files, RetentionRules.of(settings), utc_now(), dry_run=dry_run, progress=progress)
    if as_json:
        print_json(result.summary())
    else:
        print("\n".join(in_words(result)))
