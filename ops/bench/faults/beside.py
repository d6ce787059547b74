"""Something done again and again on a thread beside the rounds, for as long as a with-block lasts."""

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Beside(ABC):
    """`_act` is called `seconds` after the block begins and after each call before it; one that takes long looks at
    `_stopping`."""

    def __init__(self, name: str, seconds: float) -> None:
        self._seconds = seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    @abstractmethod
    def _act(self) -> None: ...

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            self._act()
