"""Memos in the detector: any text is scored, alike however the log is cut, and only given ones learn."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.checks import failed_checks
from models.feature_schema import MEMO_PARTS
from models.features import FeatureBuilder
from models.scoring import Scorer
from models.text_reading import CHARACTERS_A_PART
from tests.models.logs import cut, log_of, untrained

#: Any text at all: every script, control characters, what cannot be seen, lone surrogates.
memos = st.none() | st.text(st.characters(), max_size=80)
DISGUISED = ("PayPa1", "P\u0430yPal", "Pay\u200bPal", "\u202e\u05d0\u05d1 rent", "\x00\x1b[2J", "\ud800", "\u0300" * 60)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 3), memos | st.sampled_from(DISGUISED)), min_size=1, max_size=20), st.data())
def test_any_memo_is_scored_alike_however_the_log_is_cut(
    rows: list[tuple[int, str | None]], data: st.DataObject
) -> None:
    events = log_of([{"account": account, "memo": memo} for account, memo in rows])
    places = data.draw(st.lists(st.integers(0, len(rows)), max_size=4))
    whole, in_parts = Scorer(untrained()), Scorer(untrained())
    scores = whole.score(events).score
    assert np.isfinite(scores).all()
    found = np.concatenate([in_parts.score(part).score for part in cut(events, places)])
    np.testing.assert_allclose(found, scores, rtol=0, atol=1e-5)
    assert failed_checks(untrained(), events) in ([], [f"the same score {scores[0]:.6f} for every event"])


def test_of_a_megabyte_no_more_is_scored_than_its_beginning() -> None:
    for unit in DISGUISED:
        huge = (unit * 1_000_000)[:1_000_000]
        beginning = huge[: CHARACTERS_A_PART * MEMO_PARTS]
        one, other = (Scorer(untrained()).score(log_of([{"memo": memo}])).score for memo in (huge, beginning))
        assert one.tolist() == other.tolist()


def test_a_memo_moves_the_score_of_its_event_alone_at_first() -> None:
    rows = [{"account": account} for account in range(4)]
    plain = Scorer(untrained()).score(log_of(rows)).score
    rows[2]["memo"] = "keep 10 percent"
    moved = Scorer(untrained()).score(log_of(rows)).score
    assert (np.abs(moved - plain) > 1e-7).tolist() == [False, False, True, False]


def test_a_memo_moves_what_the_account_does_next() -> None:
    first, next_one = {"account": 1, "memo": "keep 10 percent"}, {"account": 1, "number": 7}
    with_memo = Scorer(untrained()).score(log_of([first, next_one])).score[1]
    without = Scorer(untrained()).score(log_of([{"account": 1}, next_one])).score[1]
    assert with_memo != without


def test_memos_get_gradients_only_where_they_are_given() -> None:
    network = untrained().network
    for memo, learns in ((None, False), ("", False), ("rent", True)):
        built = FeatureBuilder(10_000.0).build(log_of([{"memo": memo}]))
        network.zero_grad()
        network.inputs(
            torch.from_numpy(built.features), torch.from_numpy(built.categories), built.memos
        ).sum().backward()
        assert (network.memo_encoder.parts.weight.grad is not None) == learns
