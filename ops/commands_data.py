"""`headgate data`: what was collected, before anything is trained on it."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from ops.terminal import Json, load_settings, print_json

data = typer.Typer(help="What was collected.", no_args_is_help=True)

Transactions = Annotated[Path | None, typer.Option(help="CSV or Parquet file; without it, SQL.")]
LabelsFile = Annotated[Path | None, typer.Option(help="File with event_id and label; frauds alone suffice.")]
HorizonDays = Annotated[
    float | None,
    typer.Option(
        min=0, help="Age from which an event without label is legitimate; default: HEADGATE_LABEL_HORIZON_DAYS."
    ),
]


@data.callback()
def _only_subcommands() -> None:
    """Without this, Typer would make a single command of the group."""


@data.command("check")
def check(
    transactions: Transactions = None,
    labels: LabelsFile = None,
    label_horizon_days: HorizonDays = None,
    report: Annotated[Path | None, typer.Option(help="Also write an HTML page with plots to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Say whether what was collected is fit to train on; exit code 1 where training would refuse it."""
    from rich.console import Console

    from ops.clock import utc_now
    from ops.compose import read_rates
    from ops.jobs.data_check import check_database, check_files
    from ops.jobs.data_report import print_summary, write_report
    from ops.progress import progress_bar
    from storage.database import open_database

    settings = load_settings()
    rates = read_rates(settings.rates)
    horizon = settings.label_horizon if label_horizon_days is None else timedelta(days=label_horizon_days)
    with progress_bar(as_json) as progress:
        if transactions is not None:
            quality = check_files(transactions, labels, rates, horizon, progress, settings.pseudonyms)
        else:
            sql = open_database(settings.database.get_secret_value())
            quality = check_database(sql, rates, utc_now(), horizon, progress)
    if report is not None:
        write_report(report, quality)
    if as_json:
        print_json(quality.as_json())
    else:
        print_summary(quality, Console())
        if report is not None:
            print(f"report: {report}")
    if quality.verdict == "refused":
        raise typer.Exit(1)
