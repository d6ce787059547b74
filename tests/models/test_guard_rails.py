"""What must not be shown: each rule against its definition, alone and with the others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalogue import NO_CATEGORY
from models.guard_rails import SlateRules, allowed_candidates, among, in_holdout, shown_too_often, too_many_alike
from models.hashing import hashes

USERS = [f"user-{number}" for number in range(40_000)]
NOW = np.array([1_780_000_000_000])


def flags(*values: int) -> np.ndarray:
    return np.array([values], bool)


# The holdout.


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_the_holdout_is_the_share_that_was_asked_for(share: float) -> None:
    held = in_holdout(USERS, share)
    assert held.mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / len(USERS)))


def test_the_same_users_are_in_the_holdout_for_ever() -> None:
    assert [user for user in USERS[:100] if in_holdout([user], 0.05)[0]] == [
        "user-36",
        "user-38",
        "user-53",
        "user-75",
        "user-76",
        "user-84",
    ]


def test_a_larger_holdout_holds_the_smaller_one() -> None:
    small, large = in_holdout(USERS, 0.05), in_holdout(USERS, 0.2)
    assert (large | ~small).all()


def test_the_holdout_does_not_follow_the_hashes_that_partitions_or_buckets_use() -> None:
    held = in_holdout(USERS, 0.2)
    plain = hashes(USERS)
    for part in (plain % 8, plain >> np.uint64(61)):
        for value in range(8):
            own = held[part == value]
            assert own.mean() == pytest.approx(0.2, abs=5 * np.sqrt(0.16 / len(own)))


# Each rule.


def test_candidates_in_a_ring_are_found_and_nothing_is_not() -> None:
    key, ring = np.array([[5, 0, -7, 5], [5, 1, 2, 3]]), np.array([[0, 5, -7], [0, 0, 0]])
    assert among(key, ring).tolist() == [[True, False, True, True], [False] * 4]


def test_an_item_rests_once_it_was_shown_often_enough_within_the_window() -> None:
    rules, now = SlateRules(most_impressions=3, impression_window=1_000), int(NOW[0])
    shown = np.array([[1, 1, 1, 2, 2, 3, 3, 3, 0, 0, 0]])
    at = np.array([[now - 999, now - 1, now, now, now, now, now, now - 1_000, now, now, now]])
    found = shown_too_often(np.array([[1, 2, 3, 4, 0]]), shown, at, NOW, rules)
    assert found.tolist() == [[True, False, False, False, False]]


categories = st.lists(st.integers(0, 3), min_size=1, max_size=12)


@given(categories, st.integers(1, 4), st.integers(0, 1_000))
def test_of_each_category_the_most_preferred_stay(own: list[int], most: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    preference, allowed = draw.normal(size=(1, len(own))), draw.random((1, len(own))) < 0.7
    found = too_many_alike(np.array([own], np.uint64), allowed, preference, most)[0]
    for category in set(own):
        members = [place for place in range(len(own)) if own[place] == category and allowed[0, place]]
        kept = sorted(members, key=lambda place: -preference[0, place])[: len(own) if category == NO_CATEGORY else most]
        assert {place for place in members if not found[place]} == set(kept)
    assert not found[~allowed[0]].any()


def test_rows_of_several_users_are_judged_each_for_itself() -> None:
    draw = np.random.default_rng(0)
    category, allowed = draw.integers(0, 3, (6, 9)).astype(np.uint64), draw.random((6, 9)) < 0.8
    preference = draw.normal(size=(6, 9))
    together = too_many_alike(category, allowed, preference, 2)
    for row in range(6):
        own = slice(row, row + 1)
        assert np.array_equal(together[own], too_many_alike(category[own], allowed[own], preference[own], 2))


def test_no_candidates_are_judged_too() -> None:
    nothing = np.zeros((3, 0))
    assert too_many_alike(nothing.astype(np.uint64), nothing.astype(bool), nothing, 2).shape == (3, 0)


# Together.


def judged(
    present: np.ndarray, hard: np.ndarray, soft: list[np.ndarray], size: int
) -> tuple[np.ndarray, dict[str, int]]:
    """Liked less from left to right."""
    rules = {f"soft{number}": (lambda allowed, mask=mask: mask) for number, mask in enumerate(soft)}
    liking = -np.arange(present.shape[1], dtype=np.float32)[None].repeat(len(present), 0)
    return allowed_candidates(present, {"hard": hard}, rules, liking, size)


def test_each_rule_counts_what_the_rules_before_it_left() -> None:
    allowed, counts = judged(
        flags(1, 1, 1, 1, 0), flags(1, 0, 0, 0, 1), [flags(1, 1, 0, 0, 0), flags(1, 1, 1, 0, 0)], 1
    )
    assert allowed.tolist() == flags(0, 0, 0, 1, 0).tolist()
    assert counts == {"hard": 1, "soft0": 1, "soft1": 1, "lifted": 0}


def test_soft_rules_give_back_what_is_liked_best_where_too_few_are_left() -> None:
    allowed, counts = judged(flags(1, 1, 1, 1, 1), flags(1, 0, 0, 0, 0), [flags(1, 1, 1, 1, 0)], 3)
    assert allowed.tolist() == flags(0, 1, 1, 0, 1).tolist()
    assert counts["lifted"] == 1


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_hard_rules_are_never_lifted_and_soft_ones_only_as_far_as_needed(seed: int, size: int) -> None:
    draw = np.random.default_rng(seed)
    present, hard, one, other = draw.random((4, 5, 8)) < np.array([0.8, 0.4, 0.5, 0.5])[:, None, None]
    allowed, counts = judged(present, hard, [one, other], size)
    may, kept = present & ~hard, present & ~hard & ~one & ~other
    assert not (allowed & ~may).any()
    assert (allowed | ~kept).all()
    wanted = np.maximum(kept.sum(1), np.minimum(size, may.sum(1)))
    assert allowed.sum(1).tolist() == wanted.tolist()
    assert counts["lifted"] == (kept.sum(1) < wanted).sum()


def test_a_soft_rule_sees_what_the_rules_before_it_left() -> None:
    seen = []
    soft = {name: lambda allowed: seen.append(allowed.copy()) or flags(0, 1, 0) for name in ("one", "two")}
    allowed_candidates(flags(1, 1, 1), {"hard": flags(1, 0, 0)}, soft, np.zeros((1, 3), np.float32), 1)
    assert [one.tolist() for one in seen] == [flags(0, 1, 1).tolist(), flags(0, 0, 1).tolist()]
