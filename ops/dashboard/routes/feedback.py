"""Feedback from people: a verdict on an alert or an event, a reward for an item of a slate. It goes to Kafka like that
of any other producer, and is answered once Kafka has confirmed it."""

from typing import Annotated, Literal
from uuid import uuid4

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ops.dashboard.answers import FeedbackTaken
from ops.dashboard.context import Context, InContext
from ops.dashboard.errors import ApiError, not_found
from ops.dashboard.roles import User
from ops.dashboard.security import ANALYST, Caller
from ops.dashboard.sources import Sources
from storage.alert_list import account_of_alert
from storage.audit import JSON, AuditEntry, record_audit
from storage.stored_predictions import account_of_event
from storage.stored_slates import slate_subject
from streams import contract
from streams.kafka import KafkaUnavailable, publish_confirmed

router = APIRouter(prefix="/api/feedback", tags=["feedback"])

CONFIRM_SECONDS = 5.0
#: As the contract has it: no NUL character.
Id = Annotated[str, Field(min_length=1, max_length=contract.MAX_ID_LENGTH, pattern=r"^[^\x00]+$")]
Source = Annotated[str, Field(max_length=contract.MAX_ID_LENGTH, pattern=r"^[^\x00]*$")]


class Given(BaseModel):
    """feedback_id: the giver's own; given again with the same one, it counts once."""

    model_config = ConfigDict(extra="forbid")

    feedback_id: Id = Field(default_factory=lambda: uuid4().hex)


class Label(Given):
    """What an alert or an event was; one of alert_id and event_id."""

    kind: Literal["label"]
    alert_id: Id | None = None
    event_id: Id | None = None
    label: Literal["fraud", "legitimate"]
    source: Source = "analyst"

    @model_validator(mode="after")
    def _about_one_thing(self) -> "Label":
        if (self.alert_id is None) == (self.event_id is None):
            raise ValueError("needs one of alert_id and event_id")
        return self


class Reward(Given):
    """What an item of a slate was worth."""

    kind: Literal["reward"]
    recommendation_id: Id
    item_id: Id
    value: float = Field(ge=-contract.MAX_VALUE, le=contract.MAX_VALUE, allow_inf_nan=False)
    source: Source = "analyst"


@router.post("", status_code=202, dependencies=[ANALYST])
def give(
    context: InContext, user: Caller, body: Annotated[Label | Reward, Body(discriminator="kind")]
) -> FeedbackTaken:
    """Answered once Kafka has confirmed it. Where that takes more than five seconds the answer is 503: then it was not
    given, unless it was on its way to Kafka already: given again with a feedback_id of its giver's, it counts once."""
    key = subject_of(context, body)
    sources = context.sources
    given = contract.Feedback(given_at=sources.clock(), **body.model_dump())
    topic = sources.topic("feedback")
    _record(sources, user, "feedback.give", body)
    try:
        publish_confirmed(sources.kafka, topic, key.encode(), contract.encode(given), CONFIRM_SECONDS)
    except KafkaUnavailable:
        _record(sources, user, "feedback.unconfirmed", body)
        raise
    context.metrics.feedback_given(body.kind)
    return FeedbackTaken(feedback_id=given.feedback_id)


def _record(sources: Sources, user: User, action: str, given: Label | Reward) -> None:
    """Before Kafka is told, so that nothing is given of which nobody knows by whom; again where Kafka did not confirm
    it."""
    what = ("alert_id", "event_id", "recommendation_id")
    subject = next(f"{name.removesuffix('_id')}:{found}" for name in what if (found := getattr(given, name, None)))
    detail: dict[str, JSON] = {"feedback_id": given.feedback_id, "source": given.source}
    detail |= {"label": given.label} if isinstance(given, Label) else {"item_id": given.item_id, "value": given.value}
    with sources.database.begin() as connection:
        record_audit(connection, AuditEntry(user.name, action, subject, detail, sources.clock()))


def subject_of(context: Context, given: Label | Reward) -> str:
    """Whose feedback it is: the record's key. Raises ApiError for what is not stored."""
    with context.reading() as connection:
        if isinstance(given, Reward):
            slate = slate_subject(connection, given.recommendation_id)
            if slate is None:
                raise not_found(f"no recommendation has the id {given.recommendation_id!r}")
            if given.item_id not in slate.item_ids:
                raise ApiError(422, "invalid", f"body.item_id: {given.item_id!r} is not in that recommendation")
            return slate.user_id
        if given.alert_id is not None:
            account, what = account_of_alert(connection, given.alert_id), f"alert has the id {given.alert_id!r}"
        else:
            account, what = account_of_event(connection, given.event_id or ""), f"event has the id {given.event_id!r}"
    if account is None:
        raise not_found(f"no {what}")
    return account
