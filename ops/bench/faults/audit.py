"""The check of a whole deployment from outside: every window of what is new, put before every judge.

To be asked while the load pauses and nothing is on its way (`settled` waits for that). An auditor that begins at the
beginning checks everything at once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ops.bench.faults.deployment import Deployment
from ops.bench.faults.evidence import Reader, Window
from ops.bench.faults.outcomes import Outcomes, Violation
from ops.bench.faults.publications import Publications
from ops.bench.faults.reference import ScoreReference, SlateReference
from ops.bench.faults.topic_log import log_ends
from ops.bench.faults.worker_process import NeverHappened, wait_until
from storage.registry import ModelRegistry

#: Alert id -> revision and payload in Redis, None for none.
Hashes = dict[str, tuple[int, Any] | None]
TOPICS = ("transactions", "engagements", "feedback", "items")
#: Alerts may still be closed by verdicts while a window is read; then it is read again.
ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class Findings:
    """records: in the input topics, all that is new; *_repeats: messages beyond the first of the same id in Kafka, new
    ones."""

    violations: Sequence[Violation] = ()
    records: int = 0
    alert_revisions: int = 0
    slates: int = 0
    alert_repeats: int = 0
    slate_repeats: int = 0


@dataclass(slots=True)
class ModelFiles:
    """The files of registered models by name, each read once: later they may be overwritten."""

    registry: ModelRegistry
    _files: dict[str, bytes] = field(default_factory=dict)

    def __call__(self, name: str) -> bytes:
        if name not in self._files:
            model, version = name.split(":")
            self._files[name] = self.registry.load(self.registry.get(model, int(version)))
        return self._files[name]


@dataclass(slots=True)
class Auditor:
    """`check` judges what came since it was asked last."""

    deployment: Deployment
    files: ModelFiles
    reader: Reader = field(init=False)
    outcomes: Outcomes = field(default_factory=Outcomes)
    publications: Publications = field(default_factory=Publications)
    scores: ScoreReference = field(init=False)
    slates: SlateReference = field(init=False)

    def __post_init__(self) -> None:
        self.reader = Reader(self.deployment)
        self.scores, self.slates = ScoreReference(self.files), SlateReference(self.files)

    @staticmethod
    def of(deployment: Deployment) -> "Auditor":
        return Auditor(deployment, ModelFiles(ModelRegistry(deployment.database, str(deployment.models))))

    def again(self) -> "Auditor":
        """One that checks everything from the beginning."""
        return Auditor(self.deployment, self.files)

    def check(self, *, redis_forgot: bool = False) -> Findings:
        """redis_forgot: Redis lost everything since the last check, and was rebuilt."""
        window, hashes = self._steady_window(redis_forgot)
        before = dict(self.publications.repeats)
        found = [
            *self.outcomes.violations(window),
            *self.publications.violations(window, redis_forgot=redis_forgot),
            *(self._all_in_redis(hashes) if redis_forgot else ()),
            *self.scores.violations(window),
            *self.slates.violations(window),
        ]
        repeats = {kind: count - before.get(kind, 0) for kind, count in self.publications.repeats.items()}
        return Findings(
            violations=found,
            records=sum(len(topic.log) for topic in window.inputs.values()),
            alert_revisions=len(window.alerts),
            slates=len(window.slates),
            alert_repeats=repeats.get("alert", 0),
            slate_repeats=repeats.get("slate", 0),
        )

    def _steady_window(self, everything: bool) -> tuple[Window, Hashes]:
        """One during which no alert got a new revision, and all revisions were published when it began; with
        `everything` and what Redis held of all alerts that ever were meanwhile."""
        for _ in range(ATTEMPTS):
            reader = self.reader.copy()
            self.deployment.wait_relayed()
            window, hashes = reader.window(), Hashes()
            if everything:
                known = set(self.publications.latest) | {alert_id for alert_id, _ in window.alerts}
                hashes = reader.hashes(known | reader.alerts_in_redis())
            if not reader.further_alerts(window):
                self.reader = reader
                return window, hashes
        raise NeverHappened("alerts were never still")

    def _all_in_redis(self, hashes: Hashes) -> Iterable[Violation]:
        """What Redis holds of all that ever was, not of the latest window alone."""
        yield from self.publications.alerts_in_hashes(hashes)
        yield from self.publications.slates_in_redis(self.reader.current_slates(set(self.publications.newest)))


def settled(deployment: Deployment, seconds: float) -> list[Violation]:
    """Waits until every input record has an outcome and everything is published; what did not come is lost."""
    found = []
    try:
        wait_until("every record has an outcome", lambda: not behind(deployment), seconds)
    except NeverHappened as error:
        found.append(Violation("lost", f"{error}: {behind(deployment)}"))
    try:
        deployment.wait_relayed(seconds)
    except NeverHappened as error:
        found.append(Violation("lost", str(error)))
    return found


def behind(deployment: Deployment) -> dict[str, int]:
    """Input topic/partition -> records at the end of its log that have no outcome yet; none where there are none."""
    found = {}
    for topic in TOPICS:
        name = f"{deployment.prefix}{topic}"
        progress = deployment.progress(name)
        for partition, end in log_ends(deployment.kafka, name).items():
            left = end - (progress[partition].next_offset if partition in progress else 0)
            if left:
                found[f"{topic}/{partition}"] = left
    return found
