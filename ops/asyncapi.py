"""The contract as a document for machines: AsyncAPI 3, written to docs/asyncapi.json by `python -m ops.documentation`.

Fields, types and limits are those of streams/contract.py, topics and their configuration those of streams/kafka.py;
words and examples are those of docs/contract.md, which tests hold to the code. So nothing is said in two places.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from importlib.metadata import version
from typing import Any, Literal

import msgspec

from ops.settings import Settings
from storage.outbox import DeadLetterRow
from streams import contract
from streams.decode import decode_transactions
from streams.kafka import topic_configurations
from streams.records import DecodeLimits
from streams.sinks import dead_letter_headers

ASYNCAPI = "3.0.0"
KAFKA_BINDING = "0.5.0"
JSON_TYPE, BYTES_TYPE = "application/json", "application/octet-stream"
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Topic:
    """As the page has it. message: of its records, None for those of dead letters; key: what its records' key is."""

    name: str
    way: Literal["in", "out"]
    message: type[msgspec.Struct] | None
    key: str

    @property
    def heading(self) -> str:
        return f"## Topic {self.name} ({self.way})"

    @property
    def message_name(self) -> str:
        return "DeadLetter" if self.message is None else self.message.__name__


TOPICS = (
    Topic("transactions", "in", contract.Transaction, "the account_id"),
    Topic("engagements", "in", contract.Engagement, "the user_id"),
    Topic("items", "in", contract.Item, "the item_id"),
    Topic("feedback", "in", contract.Feedback, "the account_id or user_id that the feedback is about"),
    Topic("alerts", "out", contract.Alert, "the account_id"),
    Topic("recommendations", "out", contract.Recommendation, "the user_id"),
    Topic("predictions", "out", contract.Prediction, "the account_id"),
    Topic("model-updates", "out", contract.ModelUpdate, "the model's name"),
    Topic("dead-letters", "out", None, "the key of the record that could not be processed"),
)
DELETION = "ItemDeletion"
#: What introduces the table of a message that is part of another one.
PARTS: Mapping[type[msgspec.Struct], tuple[str, str]] = {
    contract.Reason: ("alerts", "A reason:"),
    contract.TimelineEntry: ("alerts", "An entry of the timeline:"),
    contract.RecommendedItem: ("recommendations", "An item of a slate:"),
}


def document(page: str) -> str:
    """The AsyncAPI document as JSON; page: the text of docs/contract.md."""
    sections = {topic.name: _section(page, topic.heading) for topic in TOPICS}
    content: Document = {
        "asyncapi": ASYNCAPI,
        "info": {
            "title": "Headgate",
            "version": version("headgate"),
            "description": "What producers send to Headgate and what consumers get. Generated from the code and from "
            "docs/contract.md. Topic names get the prefix of HEADGATE_TOPIC_PREFIX; fields may be added. A record "
            "that does not keep to this becomes a dead letter.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": JSON_TYPE,
        "servers": {
            "kafka": {
                "host": Settings.model_fields["kafka"].default,
                "protocol": "kafka",
                "description": "The brokers of HEADGATE_KAFKA; this is its default.",
            }
        },
        "channels": {topic.name: _channel(topic, sections[topic.name]) for topic in TOPICS},
        "operations": {_operation_name(topic): _operation(topic) for topic in TOPICS},
        "components": {"messages": dict(_messages(sections)), "schemas": _schemas(sections)},
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _channel(topic: Topic, section: str) -> Document:
    limit = Settings.model_fields["record_size_limit"].default
    configuration: Document = dict(topic_configurations("", limit)[topic.name])
    if "max.message.bytes" in configuration:
        configuration["max.message.bytes"] = int(configuration["max.message.bytes"])
    configuration["cleanup.policy"] = [configuration.get("cleanup.policy", "delete")]
    return {
        "address": topic.name,
        "description": _introduction(section),
        "messages": {name: _reference("messages", name) for name in _message_names(topic)},
        "bindings": {"kafka": {"topicConfiguration": configuration, "bindingVersion": KAFKA_BINDING}},
    }


def _operation_name(topic: Topic) -> str:
    words = "".join(word.capitalize() for word in topic.name.split("-"))
    return ("receive" if topic.way == "in" else "send") + words


def _operation(topic: Topic) -> Document:
    return {
        "action": "receive" if topic.way == "in" else "send",
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "messages": [{"$ref": f"#/channels/{topic.name}/messages/{name}"} for name in _message_names(topic)],
    }


def _message_names(topic: Topic) -> Sequence[str]:
    return (topic.message_name, DELETION) if topic.message is contract.Item else (topic.message_name,)


def _messages(sections: Mapping[str, str]) -> Iterator[tuple[str, Document]]:
    for topic in TOPICS:
        if topic.message is None:
            yield topic.message_name, _dead_letter(topic, sections[topic.name])
            continue
        payload = _example(sections[topic.name])
        yield (
            topic.message_name,
            {
                **_keyed(topic),
                "contentType": JSON_TYPE,
                "payload": _reference("schemas", topic.message_name),
                "examples": [{"payload": payload}],
            },
        )
        if topic.message is contract.Item:
            deletion = {"type": "null", "description": "No value: the item is deleted."}
            yield DELETION, {**_keyed(topic), "payload": deletion, "examples": [{"payload": None}]}


def _keyed(topic: Topic) -> Document:
    key = {"type": "string", "description": f"In UTF-8: {topic.key}."}
    return {"bindings": {"kafka": {"key": key, "bindingVersion": KAFKA_BINDING}}}


def _dead_letter(topic: Topic, section: str) -> Document:
    headers: Document = {
        name: {"type": "string", "description": meaning} for name, meaning in _table(section, "header").items()
    }
    causes = _table(section, "code")
    headers["error_code"] = {
        "type": "string",
        "description": " ".join(f"{code}: {cause}" for code, cause in causes.items()),
        "enum": list(causes),
    }
    payload = {"description": "The value of the record as it was: any bytes, or none."}
    return {
        **_keyed(topic),
        "contentType": BYTES_TYPE,
        "headers": {"type": "object", "properties": headers, "required": list(headers)},
        "payload": payload,
        "examples": [_dead_letter_example()],
    }


@dataclass(frozen=True, slots=True)
class _Record:
    offset: int
    timestamp: int
    key: bytes
    value: bytes


def _dead_letter_example() -> Document:
    """A record that streams refuses, as it is sent on."""
    record = _Record(offset=4711, timestamp=1_773_489_600_000, key=b"account-1", value=b'{"event_id": "payment-1"')
    (dead,) = decode_transactions([record], DecodeLimits()).dead
    digest = sha256(record.value).hexdigest()
    row = DeadLetterRow(
        "transactions", 0, record.offset, dead.code, dead.message, dead.key, dead.value, len(record.value), digest
    )
    return {"headers": dead_letter_headers(row), "payload": record.value.decode()}


def _schemas(sections: Mapping[str, str]) -> Document:
    whole = [topic.message for topic in TOPICS if topic.message is not None]
    _, schemas = msgspec.json.schema_components(whole, ref_template="#/components/schemas/{name}")
    fields = {topic.message: _table(sections[topic.name], "field") for topic in TOPICS if topic.message is not None}
    for part, (topic_name, words) in PARTS.items():
        fields[part] = _table(sections[topic_name].partition(f"\n{words}\n")[2], "field")
    for message, meanings in fields.items():
        schema = schemas[message.__name__]
        schema.pop("additionalProperties", None)  # unknown fields of producers are kept, consumers get more fields
        for field in msgspec.structs.fields(message):
            schema["properties"][field.name] = _field(schema["properties"][field.name], field, meanings[field.name])
    return schemas


def _field(schema: Document, field: msgspec.structs.FieldInfo, meaning: str) -> Document:
    """What msgspec says of a field, as Headgate's encoder writes it, and what the page says of it."""
    if field.type is datetime:
        schema = {"type": "string", "format": "date-time"}
    elif field.type is Decimal:
        schema = {"type": "number"}
    return {"description": meaning, **schema} if meaning else schema


def _reference(kind: str, name: str) -> Document:
    return {"$ref": f"#/components/{kind}/{name}"}


# The page


def _section(page: str, heading: str) -> str:
    """Raises ValueError where the page has no such heading."""
    _, found, rest = page.partition(f"\n{heading}\n")
    if not found:
        raise ValueError(f"docs/contract.md has no heading {heading!r}")
    return re.split(r"\n## ", rest)[0]


def _introduction(section: str) -> str:
    """What comes before the section's first table."""
    return _plain(section.partition("\n|")[0])


def _example(section: str) -> Any:
    """Its only example. Raises ValueError where there is another number of them."""
    found = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    if len(found) != 1:
        raise ValueError(f"a topic's section of docs/contract.md has {len(found)} examples instead of one")
    return json.loads(found[0])


def _table(text: str, heading: str) -> dict[str, str]:
    """The first table with this first column: first cell -> last cell. Raises ValueError where there is none."""
    found = re.search(rf"^\| {heading} \|.*\n\|[ -|]+\|\n((?:\|.*\n?)+)", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"docs/contract.md lacks a table of each {heading}")
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in found[1].splitlines()]
    return {cells[0].strip("`"): _plain(cells[-1]) for cells in rows}


def _plain(words: str) -> str:
    """On one line, without the page's links, which lead nowhere from here."""
    return re.sub(r"\s+", " ", re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", words)).strip()
