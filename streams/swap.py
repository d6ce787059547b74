"""New weights between two batches: a thread finds and loads a new champion, the compute thread takes it over.

The registry says who is champion; it is asked every two seconds. A file that is missing, damaged, foreign or made for
other features is refused, and so is a model whose answers about the latest events are no numbers or alert far beyond
its budget and the model in use: that one goes on, and the operator is told. Nothing of this is on the path of a batch
but the trial and the exchange of a reference.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import structlog

from models.artifact import BadModel, TrainedDetector
from models.scoring import IncompatibleModel, Scorer, Trial
from storage.database import DatabaseUnavailable
from storage.registry import CorruptModel, ModelRecord, ModelRegistry
from streams.health import FlowMetrics

log = structlog.get_logger(__name__)

ASK_SECONDS = 2.0
#: Of the latest events, a new model may flag so many times what its budget or the model in use would, and some beside.
MOST_TIMES, MOST_BESIDE = 10.0, 20

#: Tells the operator; must not raise.
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Replacement:
    """A loaded champion. alert_share: of the events, how many its budget flags; None where that is unknown."""

    name: str
    model: TrainedDetector
    alert_share: float | None


def replacement_of(registry: ModelRegistry, record: ModelRecord) -> Replacement:
    """Raises BadModel, CorruptModel."""
    model = TrainedDetector.from_bytes(registry.load(record))
    alerts, events = (record.metrics.get(name) for name in ("alerts_per_day", "events_per_day"))
    return Replacement(f"{record.name}:{record.version}", model, alerts / events if alerts and events else None)


def failed_trial(trial: Trial, in_use: Trial, alert_share: float | None) -> str | None:
    """Why the model must not be used, or None. in_use: what the present model says of the same events."""
    if not np.isfinite(trial.score).all():
        return f"{int((~np.isfinite(trial.score)).sum())} of its {len(trial.score)} scores are no numbers"
    expected = max(alert_share or 0.0, in_use.flagged_share) * len(trial.score)
    most, flagged = MOST_BESIDE + MOST_TIMES * expected, trial.flagged_share * len(trial.score)
    if flagged > most:
        return (
            f"it flags {flagged:.0f} of the {len(trial.score)} latest events, {most:.0f} at most are plausible; "
            "restart the worker to use it all the same"
        )
    return None


class ChampionWatch:
    """Has a new champion ready for `take`. A version that was refused is not tried again until another was champion."""

    def __init__(
        self,
        registry: ModelRegistry,
        current: ModelRecord,
        metrics: FlowMetrics,
        tell: Tell,
        *,
        ask_seconds: float = ASK_SECONDS,
    ) -> None:
        self._registry = registry
        self._model_name = current.name
        self._seen = current.version
        self._proven = {f"{current.name}:{current.version}"}
        self._metrics = metrics
        self._tell = tell
        self._ask_seconds = ask_seconds
        self._ready: Replacement | None = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="champion-watch", daemon=True)
        metrics.model_in_use(current.version)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(self._ask_seconds + 5)

    def take(self, scorer: Scorer) -> str | None:
        """Puts a waiting champion into the scorer, between two batches; its name, or None where nothing changed."""
        with self._lock:
            ready, self._ready = self._ready, None
        if ready is None:
            return None
        with self._metrics.swapping():
            try:
                problem = self._problem(scorer, ready)
                if problem is None:
                    scorer.replace_model(ready.model)
            except IncompatibleModel as error:
                problem = str(error)
        if problem is not None:
            self._refuse(ready.name, problem)
            return None
        self._proven.add(ready.name)
        log.info("model replaced", model=ready.name)
        self._metrics.model_swapped("activated")
        self._metrics.model_in_use(int(ready.name.rpartition(":")[2]))
        return ready.name

    def look(self) -> None:
        """One look at the registry. Raises DatabaseUnavailable."""
        champion = self._registry.champion(self._model_name)
        if champion is None or champion.version == self._seen:
            return
        self._seen = champion.version
        try:
            ready = replacement_of(self._registry, champion)
        except (BadModel, CorruptModel) as error:
            self._refuse(f"{champion.name}:{champion.version}", str(error))
            return
        with self._lock:
            self._ready = ready

    def _run(self) -> None:
        while not self._stopping.wait(self._ask_seconds):
            try:
                self.look()
            except DatabaseUnavailable as error:
                log.warning("cannot look for a new champion", error=str(error))

    def _problem(self, scorer: Scorer, ready: Replacement) -> str | None:
        """A version that was in use before may alert as it likes: who rolls back in a wave of frauds must not be
        stopped by the wave."""
        trial = scorer.trial(ready.model)
        in_use = trial if ready.name in self._proven else scorer.trial(scorer.model)
        return failed_trial(trial, in_use, ready.alert_share)

    def _refuse(self, name: str, why: str) -> None:
        message = f"model {name} is refused: {why}; the model in use goes on"
        log.error("model refused", model=name, why=why)
        self._metrics.model_swapped("refused")
        self._tell(message)
