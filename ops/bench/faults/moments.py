"""Named moments in a worker's work at which it can be made to kill or to stop itself, from outside.

`plant` wraps the product's own functions in this process (ops/bench/faults/worker.py); the product knows nothing of it.
Nothing happens until somebody writes a moment's name and "kill" or "stop" into the file that the process looks at, each
time it comes by one; it takes the file away first, so that it happens once.
"""

import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from models.scoring import Scorer
from storage.progress import advance, claim_partitions, move_cursor
from storage.snapshots import SnapshotFiles, publish_snapshot
from streams.batch import PartitionWork
from streams.commit import Committer
from streams.sinks import KafkaSink

#: What a batch must publish for the moments around its commit: so that there is something to lose and to double.
PUBLISHED = frozenset({"alerts", "recommendations"})


class Moments:
    """`reached` ends or freezes the process where `file` says so."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def reached(self, moment: str) -> None:
        if not self._file.exists():
            return
        wanted, action = self._file.read_text().split()
        if wanted == moment:
            self._file.unlink()
            os.kill(os.getpid(), signal.SIGSTOP if action == "stop" else signal.SIGKILL)


def arm(file: Path, moment: str, action: str = "kill") -> None:
    """Has the process that looks at `file` act at its next such moment."""
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(f"{moment} {action}")
    unfinished.rename(file)


def plant(moments: Moments) -> None:
    """Once in a process, before its worker is put together."""
    _plant_around_commits(moments)
    swap_everywhere(move_cursor, _around(before=lambda: moments.reached("after_publishing")))
    swap_everywhere(claim_partitions, _around(after=lambda: moments.reached("in_claim")))
    swap_everywhere(publish_snapshot, _around(before=lambda: moments.reached("before_naming_a_snapshot")))
    swap(SnapshotFiles, "write_segment", _around(after=lambda: moments.reached("in_snapshot")))
    swap(Scorer, "replace_model", _around(after=lambda: moments.reached("in_swap")))
    swap(KafkaSink, "publish", _around(before=lambda: moments.reached("before_publishing")))


def _plant_around_commits(moments: Moments) -> None:
    """before_sending: the batch is ready, no transaction is open; before_commit: all is sent but the COMMIT;
    after_commit: nobody was told yet."""
    sent = threading.local()  # each topic has a writer thread

    def wrapped_send(send: Any) -> Any:
        def sending(self: Committer, works: Sequence[PartitionWork]) -> None:
            sent.publishing = any(work.outboxes & PUBLISHED for work in works)
            if sent.publishing:
                moments.reached("before_sending")
            send(self, works)
            if sent.publishing:
                moments.reached("after_commit")

        return sending

    def wrapped_advance(inner: Any) -> Any:
        def advancing(*arguments: Any) -> Any:
            moved = inner(*arguments)
            if sent.publishing:
                moments.reached("before_commit")
            return moved

        return advancing

    swap(Committer, "_send", wrapped_send)
    swap_everywhere(advance, wrapped_advance)


def swap(owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
    """Puts something else in the place of a module's or class's function, made from what was there."""
    setattr(owner, name, wrap(getattr(owner, name)))


def swap_everywhere(function: Any, wrap: Callable[[Any], Any]) -> None:
    """Puts something else in the place of a function of `storage`, in all of `streams` that uses it."""
    name, found = function.__name__, False
    for module in [module for path, module in sys.modules.items() if path.startswith("streams.")]:
        present = getattr(module, name, None)
        if present is not None and inspect.unwrap(present) is function:
            wrapped, found = wrap(present), True
            wrapped.__wrapped__ = present
            setattr(module, name, wrapped)
    if not found:
        raise LookupError(f"nothing in streams uses {name}")


def _around(
    *, before: Callable[[], None] = lambda: None, after: Callable[[], None] = lambda: None
) -> Callable[[Any], Any]:
    def wrap(inner: Any) -> Any:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            before()
            found = inner(*arguments, **named)
            after()
            return found

        return wrapped

    return wrap
