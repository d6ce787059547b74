"""docs/asyncapi.json: up to date, as AsyncAPI wants it, and its examples are what Headgate takes and sends."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from ops.asyncapi import TOPICS, document
from ops.documentation import ASYNCAPI_FILE, COMMAND, DOCS, asyncapi_document
from streams import contract
from streams.decode import decode_feedback, decode_transactions
from streams.decode_engagements import decode_engagements
from streams.decode_items import decode_items
from streams.kafka import topic_configurations
from streams.records import DeadRecord, DecodeLimits

DOCUMENT: dict[str, Any] = json.loads((DOCS / ASYNCAPI_FILE).read_text())
RULES = json.loads((Path(__file__).parent / "asyncapi" / "3.0.0.json").read_text())
CONTRACT = (DOCS / "contract.md").read_text()
LIMITS = DecodeLimits()
Decode = Callable[[Sequence[Any], DecodeLimits], Any]
DECODERS: dict[str, tuple[Decode, str]] = {
    "transactions": (decode_transactions, "account_id"),
    "engagements": (decode_engagements, "user_id"),
    "items": (decode_items, "item_id"),
    "feedback": (decode_feedback, "event_id"),
}
INCOMING = [topic for topic in TOPICS if topic.way == "in"]
OUTGOING = [topic for topic in TOPICS if topic.way == "out" and topic.message is not None]


@dataclass(frozen=True)
class KafkaRecord:
    value: bytes | None
    key: bytes
    offset: int = 0
    timestamp: int = 1_800_000_000_000


@cache
def validator() -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(RULES)


def faults(content: dict[str, Any]) -> list[str]:
    return [f"{error.json_path}: {error.message[:200]}" for error in validator().iter_errors(content)]


def message(name: str) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["components"]["messages"][name]
    return found


def example(name: str) -> dict[str, Any]:
    (found,) = message(name)["examples"]
    assert isinstance(found, dict)
    return found


def schema_of(name: str) -> dict[str, Any]:
    """A message's payload's, in one piece with those that it refers to."""
    return {**message(name)["payload"], "components": DOCUMENT["components"]}


def test_the_document_is_what_the_code_and_the_contracts_page_say() -> None:
    assert (DOCS / ASYNCAPI_FILE).read_text() == asyncapi_document(), f"docs/{ASYNCAPI_FILE} is outdated: {COMMAND}"


def test_asyncapis_own_schema_finds_nothing_wrong_with_it() -> None:
    assert faults(DOCUMENT) == []


def test_asyncapis_own_schema_finds_what_is_wrong() -> None:
    operations = {name: {**operation, "action": "listen"} for name, operation in DOCUMENT["operations"].items()}

    assert len(faults({**DOCUMENT, "operations": operations})) > 0


def test_every_reference_leads_somewhere() -> None:
    for pointer in references(DOCUMENT):
        place: Any = DOCUMENT
        for step in pointer.removeprefix("#/").split("/"):
            place = place[step]


def references(content: Any) -> list[str]:
    if isinstance(content, dict):
        own = [content["$ref"]] if isinstance(content.get("$ref"), str) else []
        return own + [found for part in content.values() for found in references(part)]
    return [found for part in content for found in references(part)] if isinstance(content, list) else []


def test_it_has_every_topic_with_its_configuration() -> None:
    wanted = topic_configurations("", LIMITS.record_size)
    said = {name: channel["bindings"]["kafka"]["topicConfiguration"] for name, channel in DOCUMENT["channels"].items()}

    assert said.keys() == wanted.keys()
    for name, configuration in wanted.items():
        assert said[name]["cleanup.policy"] == [configuration.get("cleanup.policy", "delete")]
        assert str(said[name].get("max.message.bytes")) == configuration.get("max.message.bytes", "None")


@pytest.mark.parametrize("topic", INCOMING, ids=lambda topic: topic.name)
def test_the_service_takes_the_example_of_what_comes_in(topic: Any) -> None:
    decode, key = DECODERS[topic.name]
    payload = example(topic.message_name)["payload"]
    decoded = decode([KafkaRecord(json.dumps(payload).encode(), payload[key].encode())], LIMITS)

    assert (decoded.dead, len(decoded)) == ([], 1)
    jsonschema.validate(payload, schema_of(topic.message_name))


@pytest.mark.parametrize("topic", INCOMING, ids=lambda topic: topic.name)
def test_what_the_schema_refuses_the_service_refuses_too(topic: Any) -> None:
    decode, key = DECODERS[topic.name]
    payload = example(topic.message_name)["payload"]
    for name in DOCUMENT["components"]["schemas"][topic.message_name]["required"]:
        lacking = {field: value for field, value in payload.items() if field != name}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(lacking, schema_of(topic.message_name))
        (dead,) = decode([KafkaRecord(json.dumps(lacking).encode(), payload[key].encode())], LIMITS).dead
        assert (dead.code, name in dead.message) == ("invalid_field", True)


def test_the_service_takes_the_example_of_an_items_deletion() -> None:
    assert example("ItemDeletion") == {"payload": None}
    assert decode_items([KafkaRecord(None, b"item-7")], LIMITS).deleted.tolist() == [True]


@pytest.mark.parametrize("topic", OUTGOING, ids=lambda topic: topic.name)
def test_the_example_of_what_goes_out_is_what_would_be_sent(topic: Any) -> None:
    payload = example(topic.message_name)["payload"]
    sent = contract.encode(msgspec.json.decode(json.dumps(payload), type=topic.message))

    assert json.loads(sent) == payload
    jsonschema.validate(payload, schema_of(topic.message_name))


def test_the_example_of_a_dead_letter_is_one() -> None:
    found = example("DeadLetter")
    value = found["payload"].encode()
    (dead,) = decode_transactions([KafkaRecord(value, b"account-1")], LIMITS).dead

    assert isinstance(dead, DeadRecord)
    assert (dead.code, dead.message) == (found["headers"]["error_code"], found["headers"]["error_message"])
    assert (str(len(value)), sha256(value).hexdigest()) == (
        found["headers"]["payload_bytes"],
        found["headers"]["sha256"],
    )
    jsonschema.validate(found["headers"], message("DeadLetter")["headers"])


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (CONTRACT.replace("## Topic alerts (out)", "## Alerts"), "has no heading '## Topic alerts"),
        (CONTRACT.replace("| header | meaning |", "| name | meaning |"), "lacks a table of each header"),
        (CONTRACT.replace('```json\n{"event_id"', '```\n{"event_id"'), "has 0 examples instead of one"),
    ],
)
def test_a_page_that_lacks_something_is_refused(broken: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason.replace("(", r"\(")):
        document(broken)
