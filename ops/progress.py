"""Progress bars where a person waits; on standard error, so that standard output keeps a command's result."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


@contextmanager
def progress_bar(quiet: bool, console: Console | None = None) -> Iterator[Callable[[str, float], None]]:
    """progress(stage, share done): a bar for each stage; nothing where quiet."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    bars = Progress(*columns, console=console or Console(stderr=True), disable=quiet)
    tasks: dict[str, TaskID] = {}

    def progress(stage: str, done: float) -> None:
        bars.start()  # not before: work that is refused at once leaves no empty line
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=1.0)
        bars.update(tasks[stage], completed=done)

    try:
        yield progress
    finally:
        if tasks:
            bars.stop()
