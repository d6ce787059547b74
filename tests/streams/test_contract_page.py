"""docs/contract.md says what is there: every field, header, code and topic is on it, and its examples are real."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.engagements import LONGEST_DWELL, REWARDS
from models.state import EVENT_IDS, POSITIONS
from storage.outbox import DeadLetterRow
from streams import contract, decode, decode_engagements, decode_items
from streams.alerts import MAX_EVENTS, SEVERITY_BANDS
from streams.decode_items import MAX_IMAGE_BYTES
from streams.kafka import topic_configurations
from streams.records import DecodeLimits
from streams.rows import KEPT_BYTES
from streams.sinks import KafkaSink

PAGE = (Path(__file__).parents[2] / "docs" / "contract.md").read_text()
RECORDED_AT = 1_800_000_000_000


def section(heading: str) -> str:
    """The text below a heading, up to the next one."""
    _, found, rest = PAGE.partition(f"\n{heading}\n")
    assert found, heading
    return re.split(r"\n## ", rest)[0]


def table(text: str, first_column: str) -> dict[str, list[str]]:
    """The table with this heading: first cell -> all cells, both without backticks."""
    lines = text.splitlines()
    start = next(row for row, line in enumerate(lines) if line.startswith(f"| {first_column} |"))
    rows = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        rows[cells[0].strip("`")] = cells
    return rows


def example(heading: str) -> bytes:
    (found,) = re.findall(r"```json\n(.*?)```", section(heading), re.DOTALL)
    return str(found).encode()


@dataclass(frozen=True)
class KafkaRecord:
    value: bytes
    key: bytes
    offset: int = 0
    timestamp: int = RECORDED_AT


@dataclass
class KeptMessages:
    """As much of a producer as the sink uses."""

    messages: list[dict[str, Any]] = field(default_factory=list)

    def produce(self, **message: Any) -> None:
        self.messages.append(message)

    def poll(self, timeout: float) -> int:
        return 0

    def flush(self, timeout: float) -> int:
        return 0


@pytest.mark.parametrize(
    ("heading", "message"),
    [
        ("## Topic transactions (in)", contract.Transaction),
        ("## Topic engagements (in)", contract.Engagement),
        ("## Topic items (in)", contract.Item),
        ("## Topic feedback (in)", contract.Feedback),
        ("## Topic alerts (out)", contract.Alert),
        ("## Topic recommendations (out)", contract.Recommendation),
        ("## Topic predictions (out)", contract.Prediction),
        ("## Topic model-updates (out)", contract.ModelUpdate),
    ],
)
def test_the_page_has_every_field_of_a_topic(heading: str, message: type[msgspec.Struct]) -> None:
    assert list(table(section(heading), "field")) == list(message.__struct_fields__)


@pytest.mark.parametrize(
    ("words", "message"), [("A reason:", contract.Reason), ("An entry of the timeline:", contract.TimelineEntry)]
)
def test_the_page_has_every_field_inside_an_alert(words: str, message: type[msgspec.Struct]) -> None:
    _, _, text = section("## Topic alerts (out)").partition(f"\n{words}\n")

    assert list(table(text, "field")) == list(message.__struct_fields__)


def test_the_page_has_every_field_of_an_item_of_a_slate() -> None:
    _, _, text = section("## Topic recommendations (out)").partition("\nAn item of a slate:\n")

    assert list(table(text, "field")) == list(contract.RecommendedItem.__struct_fields__)


def test_the_page_says_what_each_action_is_worth() -> None:
    said = {name: cells[1] for name, cells in table(section("## Topic engagements (in)"), "action").items()}

    assert said.pop("dwell") == f"1/{1 / REWARDS['dwell']:g} a second"
    assert {name: float(reward) for name, reward in said.items()} == {
        name: reward for name, reward in REWARDS.items() if name != "dwell"
    }
    assert f"from {LONGEST_DWELL:g} seconds on" in section("## Topic engagements (in)")


@pytest.mark.parametrize(
    ("heading", "message"),
    [
        ("## Topic transactions (in)", contract.Transaction),
        ("## Topic engagements (in)", contract.Engagement),
        ("## Topic items (in)", contract.Item),
        ("## Topic feedback (in)", contract.Feedback),
    ],
)
def test_the_page_says_which_fields_are_required(heading: str, message: type[msgspec.Struct]) -> None:
    said = {name: cells[2] for name, cells in table(section(heading), "field").items()}
    defaults = {item.name: item.default for item in msgspec.structs.fields(message)}

    assert said == {
        name: "yes" if default is msgspec.NODEFAULT else "no" if default is None else f"`{json.dumps(default)}`"
        for name, default in defaults.items()
    }


def test_the_example_of_a_transaction_is_accepted() -> None:
    decoded = decode.decode_transactions(
        [KafkaRecord(example("## Topic transactions (in)"), b"account-1")], DecodeLimits()
    )

    assert decoded.dead == []
    assert decoded.account_id == ["account-1"]
    assert decoded.extra == [b'{"device":{"os":"android"}}']


def test_the_example_of_an_engagement_is_accepted() -> None:
    decoded = decode_engagements.decode_engagements(
        [KafkaRecord(example("## Topic engagements (in)"), b"user-1")], DecodeLimits()
    )

    assert decoded.dead == []
    assert decoded.action == ["dwell"]
    assert decoded.extra == [b'{"page":"home"}']


def test_the_example_of_an_item_is_accepted() -> None:
    decoded = decode_items.decode_items([KafkaRecord(example("## Topic items (in)"), b"item-7")], DecodeLimits())

    assert (decoded.dead, decoded.broken) == ([], {})
    assert decoded.item_id == ["item-7"]
    assert decoded.extra == [b'{"brand":"Nordfell"}']


def test_the_example_of_feedback_is_accepted() -> None:
    decoded = decode.decode_feedback([KafkaRecord(example("## Topic feedback (in)"), b"account-1")], DecodeLimits())

    assert decoded.dead == []
    assert decoded.messages[0].label == "fraud"
    assert decoded.extra == [None]


@pytest.mark.parametrize(
    ("heading", "message"),
    [
        ("## Topic alerts (out)", contract.Alert),
        ("## Topic recommendations (out)", contract.Recommendation),
        ("## Topic predictions (out)", contract.Prediction),
        ("## Topic model-updates (out)", contract.ModelUpdate),
    ],
)
def test_the_example_of_what_goes_out_is_what_would_be_sent(heading: str, message: type[msgspec.Struct]) -> None:
    text = example(heading)
    sent = contract.encode(msgspec.json.decode(text, type=message))

    assert json.loads(sent) == json.loads(text)
    assert list(json.loads(sent)) == list(json.loads(text))


def test_the_page_has_every_error_code() -> None:
    modules = Path(decode.__file__).parent
    source = "".join(file.read_text() for file in (modules / "records.py", *modules.glob("decode*.py")))
    codes = set(re.findall(r'Refusal\(\s*"(\w+)"', source))

    assert set(table(section("## Topic dead-letters (out)"), "code")) == codes
    assert source.count("raise Refusal(") == len(re.findall(r'raise Refusal\(\s*"\w+"', source))


def test_the_page_has_every_header_of_a_dead_letter() -> None:
    producer = KeptMessages()
    row = DeadLetterRow("transactions", 1, 2, "null_value", "the record has no value", b"key", None, 0, None)
    KafkaSink(producer, "").publish("dead_letters", [row])
    (message,) = producer.messages

    assert list(table(section("## Topic dead-letters (out)"), "header")) == [name for name, _ in message["headers"]]
    assert (message["key"], message["value"]) == (b"key", None)


def test_the_page_has_every_topic_that_is_written_or_read() -> None:
    named = set(re.findall(r"^## Topic (\S+) \((?:in|out)\)$", PAGE, re.MULTILINE))
    created = set(topic_configurations("", 1_000_000))

    assert named == created


def test_the_pages_numbers_are_those_of_the_code() -> None:
    transactions, alerts = section("## Topic transactions (in)"), section("## Topic alerts (out)")
    bands = ", ".join(f"`{name}` from {least:,.0f}" for name, least in SEVERITY_BANDS[:-1])

    assert f"the {EVENT_IDS} newest events" in transactions
    assert f"From 0 to {contract.MAX_AMOUNT:,.0f}" in transactions
    assert f"the {EVENT_IDS} newest engagements" in section("## Topic engagements (in)")
    assert f"{MAX_IMAGE_BYTES:,} bytes" in section("## Topic items (in)")
    assert f"From 0 to {contract.MAX_AMOUNT:,.0f}, in" in section("## Topic items (in)")
    for heading in ("## Topic engagements (in)", "## Topic feedback (in)"):
        assert f"rom -{contract.MAX_VALUE:,.0f} to {contract.MAX_VALUE:,.0f}." in section(heading)
    assert f"{DecodeLimits().future_tolerance // 1000}) ahead" in transactions
    assert f"1 to {contract.MAX_ID_LENGTH} characters" in PAGE
    assert f"at most {contract.MAX_TEXT_LENGTH:,}" in PAGE
    assert f"`HEADGATE_RECORD_SIZE_LIMIT` bytes long ({DecodeLimits().record_size:,})" in PAGE
    assert f"at most {MAX_EVENTS}, then" in alerts
    assert f"at most {POSITIONS}." in alerts
    assert f"{bands}, else `{SEVERITY_BANDS[-1][0]}`" in alerts
    assert f"first {KEPT_BYTES:,}" in section("## Topic dead-letters (out)")
