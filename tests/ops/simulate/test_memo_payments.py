"""Transfers whose frauds differ early in nothing but texts, and texts of two periods that share no sentence."""

from dataclasses import fields

import numpy as np
import pytest

from ops.simulate.memo_payments import (
    EARLY_TRANSFERS,
    LARGE_FACTORS,
    MEMO_SHARE,
    MemoConfig,
    MemoTransfers,
    memo_transfers,
)
from ops.simulate.memo_texts import DISGUISES, INSTRUCTIONS, ORDERS, SHOPS, MemoWriter

CONFIG = MemoConfig(accounts=1_000, frauds=1.0)


@pytest.fixture(scope="module")
def transfers() -> MemoTransfers:
    return memo_transfers(CONFIG)


def test_the_same_seed_gives_the_same_transfers_and_another_seed_others() -> None:
    small = MemoConfig(accounts=50)
    one, again, other = memo_transfers(small), memo_transfers(small), memo_transfers(MemoConfig(accounts=50, seed=1))
    for field in fields(MemoTransfers):
        assert np.array_equal(getattr(one, field.name), getattr(again, field.name))
    assert one.memo != other.memo


def test_each_fraud_is_some_transfers_of_one_account_in_a_row_and_a_large_one(transfers: MemoTransfers) -> None:
    order = np.lexsort((transfers.occurred_at, transfers.account))
    fraud, early, account = transfers.fraud[order], transfers.early[order], transfers.account[order]
    last = np.flatnonzero(fraud & ~early)
    assert len(last) > 500
    assert early.sum() + len(last) == fraud.sum()
    for place in last.tolist():
        size = 1
        while size < EARLY_TRANSFERS[1] and early[place - size - 1]:
            size += 1
        assert size >= EARLY_TRANSFERS[0]
        assert (account[place - size : place] == account[place]).all()


def test_early_transfers_are_like_honest_ones_but_for_their_texts(transfers: MemoTransfers) -> None:
    early, honest = transfers.early, ~transfers.fraud
    given = np.array([memo is not None for memo in transfers.memo])
    for chosen in (early, honest, transfers.fraud & ~early):
        assert given[chosen].mean() == pytest.approx(MEMO_SHARE, abs=0.04)
    ordinary = np.log(transfers.amount)
    assert np.median(ordinary[early]) == pytest.approx(np.median(ordinary[honest]), abs=0.08)
    assert np.median(ordinary[transfers.fraud & ~early]) > np.median(ordinary[honest]) + np.log(LARGE_FACTORS[0])
    lengths = np.array([len(memo or "") for memo in transfers.memo])
    assert np.median(lengths[early & given]) < 2.5 * np.median(lengths[honest & given])
    honest_memos = [memo or "" for memo, is_honest in zip(transfers.memo, honest, strict=True) if is_honest]
    assert any("\u0400" <= letter <= "\u04ff" for memo in honest_memos for letter in memo)


def test_nobody_writes_a_sentence_of_the_other_period() -> None:
    draw = np.random.default_rng(0)
    before, later = MemoWriter(draw, False), MemoWriter(draw, True)
    for sentences in (INSTRUCTIONS, (((*SHOPS, "x"),) * 2,)):
        earlier = {before._sentence(sentences) for _ in range(3_000)}
        assert earlier.isdisjoint({later._sentence(sentences) for _ in range(3_000)})
    last_words = {words[-1] for sentence in INSTRUCTIONS for words in sentence}
    said_before = " ".join(before.dishonest() for _ in range(2_000))
    assert not any(words in said_before for words in last_words)
    assert any(words in later.dishonest() for words in last_words for _ in range(100))


def test_a_disguised_shop_is_never_written_as_it_is() -> None:
    writer = MemoWriter(np.random.default_rng(0), False)
    orders = [memo for memo in (writer.dishonest() for _ in range(2_000)) if memo.split()[0] in ORDERS[0]]
    assert len(orders) > 500
    assert not any(memo.endswith(f" {shop}") for memo in orders for shop in SHOPS)
    disguised = {way(shop) for way in DISGUISES for shop in SHOPS} - set(SHOPS)
    assert {memo.split(" ", 2)[2] for memo in orders} <= disguised


def test_without_memos_nothing_else_changes(transfers: MemoTransfers) -> None:
    blank = transfers.without_memos()
    assert blank.memo == [None] * len(transfers)
    assert np.array_equal(blank.amount, transfers.amount)
    assert blank.columns()["event_id"] == transfers.columns()["event_id"]
