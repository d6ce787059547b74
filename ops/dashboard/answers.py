"""What the API answers, field by field: the models behind JSON and OpenAPI. Times are RFC 3339 in UTC."""

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Utc = Annotated[datetime, AfterValidator(lambda moment: moment.astimezone(UTC))]


class Answer(BaseModel):
    """Made from values of the layers below by their names."""

    model_config = ConfigDict(from_attributes=True, protected_namespaces=())


class Session(Answer):
    name: str
    role: Literal["viewer", "analyst", "operator"]
    tokens: bool = Field(description="Whether the console asks for tokens.")


class Services(Answer):
    sql: bool
    kafka: bool
    redis: bool


class Latency(Answer):
    """Seconds from the Kafka record's timestamp to its score, of the newest predictions."""

    p50: float
    p99: float
    samples: int


class WatchedPartition(Answer):
    topic: str
    partition: int
    next_offset: int
    lag: int | None = Field(description="Records in Kafka that SQL has not passed; null while Kafka is away.")
    updated_at: Utc
    idle_seconds: float


class Worker(Answer):
    worker: str
    partitions: list[WatchedPartition]


class Status(Answer):
    """Parts of what is away are null."""

    at: Utc
    events_per_second: float | None
    engagements_per_second: float | None
    slates_per_second: float | None
    lag: int | None
    latency: Latency | None
    alerts_open: int | None
    alerts_today: int | None
    alert_budget: float | None
    dead_letters: int | None
    workers: list[Worker]
    champions: dict[str, str]
    services: Services


class AlertSummary(Answer):
    """One revision of an alert; amount_at_risk is null only in events from Redis while SQL is away."""

    alert_id: str
    revision: int
    status: str
    closed_by: str | None
    account_id: str
    occurred_at: Utc
    scored_at: Utc
    score: float
    score_kind: str
    threshold: float
    severity: str
    amount_at_risk: float | None
    model: str
    reason: str | None = Field(description="The strongest reason in words.")
    events: int
    label: str | None
    label_source: str | None
    label_given_at: Utc | None


class Label(Answer):
    feedback_id: str
    given_at: Utc
    label: str
    source: str | None
    status: str
    event_id: str | None
    alert_id: str | None


class Prediction(Answer):
    """A row of v_predictions."""

    event_id: str
    account_id: str
    merchant_id: str
    occurred_at: Utc
    scored_at: Utc
    amount: float
    currency: str
    channel: str | None
    country: str | None
    category: str | None
    memo: str | None
    extra: dict[str, Any] | None
    score: float
    threshold: float
    flagged: bool
    score_kind: str
    model: str
    alert_id: str | None
    label: str | None
    label_source: str | None
    label_given_at: Utc | None
    day: date
    topic_generation: int
    source_partition: int
    source_offset: int


class Alert(AlertSummary):
    event_ids: list[str]
    reasons: list[dict[str, Any]]
    timeline: list[dict[str, Any]]
    labels: list[Label]
    predictions: list[Prediction]


class Alerts(Answer):
    alerts: list[AlertSummary]
    next: str | None


class BudgetDay(Answer):
    day: date
    opened: int
    budget: float | None


class AlertBudget(Answer):
    days: list[BudgetDay]
    open: int
    today: int
    budget: float | None


class Predictions(Answer):
    predictions: list[Prediction]


class Daily(Answer):
    """Rows of a daily view; as_of is null until they were read for the first time."""

    as_of: Utc | None
    days: list[dict[str, Any]]


class Coverage(Answer):
    as_of: Utc | None
    available: int | None
    shown: int | None
    share: float | None
    slates: int | None


class Run(Answer):
    run_id: str
    model_name: str
    model_version: int | None
    started_at: Utc
    finished_at: Utc | None
    status: str
    message: str | None
    config: dict[str, Any]


class Runs(Answer):
    runs: list[Run]


class Model(Answer):
    name: str
    version: int
    kind: str
    alias: str | None
    created_at: Utc
    promoted_at: Utc | None
    promoted_why: str | None
    withdrawn_at: Utc | None
    withdrawn_why: str | None
    feature_schema: int
    size_bytes: int
    metrics: dict[str, float]


class Models(Answer):
    models: list[Model]


class ModelDetail(Model):
    verdict: dict[str, Any] | None
    runs: list[Run]
    curves: dict[str, Any] | None
    card: dict[str, Any] | None = Field(description="Null for a version that was registered without one.")


class Drift(Answer):
    day: date
    model: str
    detector: str
    subject: str
    value: float
    bound: float
    detected_at: Utc


class Drifts(Answer):
    drifts: list[Drift]


class Item(Answer):
    item_id: str
    title: str | None
    category: str | None
    price: float | None
    available: bool


class Items(Answer):
    items: list[Item]


class Neighbour(Answer):
    item_id: str
    title: str | None
    cosine: float


class ItemDetail(Item):
    neighbours: list[Neighbour]
    policy: str | None
    loading: bool = Field(description="The vectors are being read; ask again in a few seconds.")


class SlateItem(Answer):
    item_id: str
    position: int
    propensity: float
    score: float
    title: str | None
    category: str | None
    price: float | None
    available: bool | None = Field(description="Null for an item that SQL does not know.")
    image: str | None = Field(description="A data: URL of the PNG or JPEG.")


class Slate(Answer):
    recommendation_id: str
    user_id: str
    made_at: Utc
    policy: str
    cause: str
    items: list[SlateItem]


class DeadLetter(Answer):
    generation: int
    partition: int
    offset: int
    topic: str
    recorded_at: Utc
    error_code: str
    error_message: str
    payload_bytes: int
    whole: bool
    replayed_at: Utc | None


class DeadLetterDetail(DeadLetter):
    key: str | None
    payload: str | None


class DeadLetters(Answer):
    dead_letters: list[DeadLetter]
    codes: dict[str, int] = Field(description="How many were not replayed, by error code.")
    next: str | None


class Replayed(Answer):
    replayed_at: Utc


class FeedbackTaken(Answer):
    feedback_id: str


class View(Answer):
    name: str
    about: str
    columns: list[str]
    query: str


class Views(Answer):
    views: list[View]


class Health(Answer):
    ready: bool
    services: Services
    version: str


class AuditEntry(Answer):
    id: int
    at: Utc
    who: str = Field(description="`role:name` of a token, or `cli:` and the user of the operating system.")
    action: str
    subject: str
    detail: dict[str, Any]


class AuditEntries(Answer):
    entries: list[AuditEntry]
    next: str | None
