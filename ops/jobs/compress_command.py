"""`headgate models compress`: puts the compression of the champion together with the settings, and shows what came of
it."""

from rich.console import Console
from rich.table import Table

from ops.clock import utc_now
from ops.compose import read_rates
from ops.jobs.compress import CompressionOutcome, CompressionRules, compress_champion
from ops.jobs.retrain import Workplace, name_of
from ops.model_registry import open_registry
from ops.progress import progress_bar
from ops.settings import Settings
from ops.terminal import cli_user, print_json
from storage.database import open_database


def run_compression(settings: Settings, rules: CompressionRules, *, as_json: bool) -> None:
    """Raises AlreadyRunning, CannotCompress, CannotSign, DatabaseUnavailable, TrainingRefused."""
    database = open_database(settings.database.get_secret_value())
    database.check()
    registry = open_registry(settings, database, registers=True).by(cli_user())
    with progress_bar(as_json) as progress:
        work = Workplace(database, registry, read_rates(settings.rates), utc_now, progress)
        outcome = compress_champion(work, rules)
    if as_json:
        print_json(outcome.as_json())
    else:
        show(outcome, Console())


def show(outcome: CompressionOutcome, console: Console) -> None:
    """For a person; fits 80 columns."""
    before, (one, _) = outcome.champion, outcome.forms[0]
    table = Table(title=f"{name_of(before.record)} made smaller", title_justify="left", caption_justify="left")
    for name in ("model", "form", "units", "AP lost", "interval", "gate", "bytes"):
        table.add_column(name, justify="left" if name in ("model", "form", "gate") else "right")
    for form, record in outcome.forms:
        lost, plan = form.judged.precision, form.judged.plan
        table.add_row(
            name_of(record),
            plan.method,
            str(plan.units),
            f"{-lost.difference:+.4f}",
            f"{-lost.high:+.4f} to {-lost.low:+.4f}",
            "passed" if form.judged.passed else form.judged.challenge.verdict.decision,
            f"{form.file_bytes:,}",
        )
    verdict = one.judged.challenge.verdict
    table.caption = f"judged on {verdict.events:,} matured events, {verdict.frauds:,} of them frauds"
    console.print(table)
    console.print(pace_table(outcome))
    console.print(f"{outcome.choice.reason}.", markup=False, highlight=False, soft_wrap=True)
    console.print(advice(outcome), markup=False, highlight=False, soft_wrap=True)


def pace_table(outcome: CompressionOutcome) -> Table:
    sizes = sorted(outcome.champion_seconds)
    title = "Microseconds of a step for an event, by the events of a batch (times faster)"
    table = Table(title=title, title_justify="left")
    for name in ("model", *(f"{size:,}" for size in sizes)):
        table.add_column(name, justify="left" if name == "model" else "right")
    of_champion = (f"{1e6 * outcome.champion_seconds[size] / size:.1f}" for size in sizes)
    table.add_row(name_of(outcome.champion.record), *of_champion)
    for form, record in outcome.forms:
        cells = (f"{1e6 * form.step_seconds[size] / size:.1f} ({form.speedup[size]:.1f})" for size in sizes)
        table.add_row(name_of(record), *cells)
    return table


def advice(outcome: CompressionOutcome) -> str:
    if outcome.chosen is None:
        return f"{name_of(outcome.champion.record)} stays the champion."
    chosen = name_of(outcome.chosen)
    if outcome.promoted:
        return f"{chosen} is the champion."
    return f"Nothing was promoted. `headgate models promote {chosen}` puts it to use."
