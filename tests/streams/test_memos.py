"""Whatever somebody writes as a memo is scored, and stays what it was on its way."""

import numpy as np
import pytest

from models.scoring import Scorer
from streams.contract import MAX_TEXT_LENGTH
from streams.decode import decode_transactions
from streams.events import events_of
from streams.records import DecodeLimits
from tests.models.logs import untrained
from tests.streams.bench import KafkaRecord, payment


def scored(records: list[KafkaRecord]) -> tuple[list[str | None], np.ndarray]:
    decoded = decode_transactions(records, DecodeLimits())
    scores = Scorer(untrained()).score(events_of(decoded, np.zeros(len(decoded), np.int32), {})).score
    return decoded.memo, scores


@pytest.mark.parametrize(
    "unit",
    [
        "x",
        "keep 10 % ",
        "P\u0430yPa1 ",
        "\u200b",
        "\u202e\u05d0",
        "\u0300",
        "\ufdfa",
        "\x01\x1f",
        "家賃",
        "\U0001f4b8",
        "\n",
        "'\"\\",
    ],
)
def test_a_memo_as_long_as_it_may_be_is_scored_as_written(unit: str) -> None:
    memo = (unit * MAX_TEXT_LENGTH)[:MAX_TEXT_LENGTH]
    kept, scores = scored([payment(0, "a", memo=memo), payment(1, "b", memo=unit)])
    assert kept == [memo, unit]
    assert np.isfinite(scores).all()


def test_a_memo_that_is_longer_is_a_dead_letter_and_the_others_are_scored() -> None:
    records = [payment(0, "a", memo="x" * (MAX_TEXT_LENGTH + 1)), payment(1, "b", memo="x" * 999_000), payment(2, "c")]
    kept, scores = scored(records)
    assert kept == [None]
    assert len(scores) == 1
