"""Which models score the stream: the champion, which decides, and perhaps one in its shadow."""

from typing import Protocol

from models.events import Events
from models.scoring import ScoredBatch, Scorer
from streams.shadow import ShadowWatch
from streams.swap import ChampionWatch


class Models(Protocol):
    """What the detection asks of them, on the compute thread. Names are name:version."""

    @property
    def shadow(self) -> str | None:
        """The model whose scores are in the batch beside the champion's."""
        ...

    def take(self, scorer: Scorer) -> str | None:
        """Between two batches: the model that has taken over, None where it is the one before."""
        ...

    def score(self, scorer: Scorer, events: Events) -> tuple[ScoredBatch, str | None]:
        """A batch as it may be committed; the model that took over for it, or None. Raises ModelFailed."""
        ...


class WatchedModels:
    """Those that the registry names."""

    def __init__(self, champions: ChampionWatch, shadows: ShadowWatch) -> None:
        self._champions = champions
        self._shadows = shadows

    @property
    def shadow(self) -> str | None:
        return self._shadows.name

    def look(self) -> None:
        """For a background thread. Raises DatabaseUnavailable."""
        self._champions.look()
        self._shadows.look()

    def take(self, scorer: Scorer) -> str | None:
        taken = self._champions.take(scorer)
        self._shadows.take(scorer)
        return taken

    def score(self, scorer: Scorer, events: Events) -> tuple[ScoredBatch, str | None]:
        scored, taken = self._champions.score(scorer, events)
        return self._shadows.checked(scorer, scored), taken
