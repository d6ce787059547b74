"""Slates: who gets one, out of what, by whom, and with which probability; and that nothing of it stops a batch."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.catalogue import Catalogue
from models.engagements import ACTIONS, Engagements
from models.guard_rails import SlateRules, in_holdout
from models.item_content import Item
from models.policy import TrainedPolicy
from models.recommending import POPULAR, RANDOM, Answer, Recommender, Slates, without_repeats
from tests.models.engagement_logs import (
    engagement_logs,
    engagements,
    items,
    seeds,
    shop,
    untrained_policy,
)
from tests.models.logs import cut

POLICY, NAME = untrained_policy(), "recommender:1"
#: No user is drawn for the holdout, no rule but those that a test is about takes anything away.
PLAIN = SlateRules(holdout=0.0, most_of_category=100, most_impressions=1_000)


def recommender(
    catalogue: Catalogue, rules: SlateRules = PLAIN, policy: TrainedPolicy | None = POLICY, capacity: int = 1
) -> Recommender:
    found = Recommender(catalogue, rules, capacity=capacity)
    if policy is not None:
        found.use_policy(found.prepare(policy), NAME)
    return found


def slates(answer: Answer) -> Slates:
    assert answer.slates is not None
    return answer.slates


def shown(found: Slates) -> list[list[int]]:
    """Catalogue rows of each slate."""
    return [
        [candidates[pick] for pick in picks if pick >= 0]
        for candidates, picks in zip(found.candidates.tolist(), found.picks.tolist(), strict=True)
    ]


def crowd(users: int, *, times: int = 2, action: str = "click", first: int = 0) -> Engagements:
    """Each user clicks so many times, with different items."""
    rows = [
        {"number": first + place, "user": place % users, "item": place % 5, "minute": place, "action": action}
        for place in range(users * times)
    ]
    return engagements(rows)


def of_user(*rows: dict[str, Any], first: int = 0) -> Engagements:
    return engagements([{"number": first + place} | row for place, row in enumerate(rows)])


# Who gets a slate.


def asked(found: Recommender, *rows: dict[str, Any], first: int = 0) -> list[int]:
    """The rows of one batch that are answered. first: the number of the first event."""
    answer = found.respond(of_user(*rows, first=first), seeds())
    return [] if answer.slates is None else answer.slates.rows.tolist()


@pytest.mark.parametrize("action", ACTIONS)
def test_every_first_engagement_gets_a_slate(action: str) -> None:
    assert asked(recommender(shop(9)), {"action": action}) == [0]


def test_an_impression_gets_a_new_slate_only_once_the_one_before_is_old() -> None:
    found = recommender(shop(9))
    assert asked(found, {"minute": 0}) == [0]
    assert asked(found, {"minute": 1, "action": "impression"}, {"minute": 5, "action": "impression"}, first=1) == []
    assert asked(found, {"minute": 6, "action": "impression"}, first=3) == [0]
    assert asked(found, {"minute": 7, "action": "impression"}, first=4) == []
    assert asked(found, {"minute": 7, "action": "skip"}, first=5) == [0]


def test_a_user_gets_one_slate_a_batch_for_his_last_engagement_that_asks() -> None:
    rows = [
        {"user": 1, "minute": 0},
        {"user": 2, "minute": 0, "action": "impression"},
        {"user": 1, "minute": 1, "action": "like"},
        {"user": 1, "minute": 2, "action": "impression"},
    ]
    assert sorted(asked(recommender(shop(9)), *rows)) == [1, 3]  # nobody had a slate before the batch
    found = recommender(shop(9))
    asked(found, {"user": 1}, {"user": 2})
    assert asked(found, *rows[1:], first=2) == [1]


def test_a_repeat_gets_no_slate() -> None:
    found, once = recommender(shop(9)), engagements([{"number": 1}])
    assert len(slates(found.respond(once, seeds()))) == 1
    answer = found.respond(Engagements.concatenate([once, once]), seeds())
    assert answer.duplicate.all()
    assert answer.slates is None


def test_slates_from_before_a_restart_count_as_old_slates_do() -> None:
    found, event = recommender(shop(9)), engagements([{"number": 1}])
    found.fold(event)
    found.note_slates(0, ["user-0"], event.occurred_at)
    assert found.respond(engagements([{"number": 2, "minute": 4, "action": "impression"}]), seeds()).slates is None
    assert len(slates(found.respond(engagements([{"number": 3, "minute": 9, "action": "impression"}]), seeds()))) == 1


# The slate.


@settings(max_examples=40)
@given(
    engagement_logs(most=40, partitions=2),
    st.integers(1, 90),
    st.integers(0, 4),
    st.sampled_from(
        [SlateRules(), PLAIN, SlateRules(size=3, floor=0.5, holdout=0.5, candidates=20, random_candidates=4)]
    ),
    st.booleans(),
)
def test_a_slate_is_what_it_says(
    events: Engagements, count: int, categories: int, rules: SlateRules, with_policy: bool
) -> None:
    catalogue = shop(count, categories=categories)
    catalogue.delete([f"item-{number}" for number in range(0, count, 5)])
    found = recommender(catalogue, rules, POLICY if with_policy else None)
    for batch in cut(events, [15, 16]):
        answer = found.respond(batch, seeds())
        if answer.slates is None:
            continue
        made = answer.slates
        assert made.picks.shape == made.propensity.shape == made.prefix.shape == made.score.shape
        assert (made.picks[:, 0] >= 0).all()
        assert len(set(made.rows.tolist())) == len(made)
        allowed = np.isfinite(made.log_weights)
        assert ((made.candidates >= 0) | ~allowed).all()
        assert catalogue.available[np.maximum(made.candidates, 0)][allowed].all()
        assert (made.picks >= 0).sum(1).tolist() == np.minimum(rules.size, allowed.sum(1)).tolist()
        for row in range(len(made)):
            real = made.candidates[row][made.candidates[row] >= 0].tolist()
            assert len(set(real)) == len(real) <= rules.candidates
            weights = np.exp(made.log_weights[row].astype(np.float64))
            assert weights.sum() == pytest.approx(1.0, abs=1e-5)
            assert weights[allowed[row]].min() >= rules.floor / allowed[row].sum() * (1 - 1e-5)
            left, product = weights.copy(), 1.0
            for place, pick in enumerate(made.picks[row].tolist()):
                if pick < 0:
                    assert np.isnan(
                        [made.propensity[row, place], made.prefix[row, place], made.score[row, place]]
                    ).all()
                    continue
                assert left[pick] > 0
                product *= left[pick] / left.sum()
                assert made.propensity[row, place] == pytest.approx(left[pick] / left.sum(), rel=1e-6)
                assert made.prefix[row, place] == pytest.approx(product, rel=1e-6)
                assert np.isfinite(made.score[row, place])
                left[pick] = 0.0


def test_equal_seeds_draw_equal_slates_and_other_seeds_others() -> None:
    catalogue, events = shop(200), crowd(30)
    one, same, other = (slates(recommender(catalogue).respond(events, seeds(start))) for start in (0, 0, 1))
    for column in ("candidates", "log_weights", "picks", "propensity", "score"):
        np.testing.assert_array_equal(getattr(one, column), getattr(same, column))
    assert shown(one) != shown(other)


def test_a_slate_does_not_depend_on_the_other_users_of_the_batch() -> None:
    catalogue, events = shop(200, categories=5), crowd(30, times=3)
    together = slates(recommender(catalogue, SlateRules()).respond(events, seeds()))
    by_user = {events.user_id[row]: place for place, row in enumerate(together.rows.tolist())}
    for user in ("user-3", "user-17"):
        rows = np.flatnonzero([name == user for name in events.user_id])
        alone = slates(
            recommender(catalogue, SlateRules()).respond(events.take(rows), lambda own, rows=rows: seeds()(rows[own]))
        )
        place = by_user[user]
        assert shown(alone)[0] == shown(together)[place]
        np.testing.assert_allclose(alone.propensity[0], together.propensity[place], rtol=1e-4)


DRAWS = 4_000


@pytest.mark.parametrize("policy", [POLICY, None])
def test_items_come_first_as_often_as_their_propensities_say(policy: TrainedPolicy | None) -> None:
    """Users without any difference, who are asked with different seeds."""
    rules = SlateRules(holdout=0.0, size=2, most_impressions=1_000)
    found = recommender(shop(8), rules, policy)
    events = engagements(
        [
            {"number": place, "user": place // 2, "item": place % 2, "minute": 9 * (place % 2), "action": "like"}
            for place in range(2 * DRAWS)
        ]
    )
    made = slates(found.respond(events, seeds()))
    assert len(made) == DRAWS
    np.testing.assert_allclose(made.log_weights, made.log_weights[:1].repeat(DRAWS, 0), atol=1e-4)
    expected = np.exp(made.log_weights[0].astype(np.float64))
    frequency = np.bincount(made.picks[:, 0], minlength=8) / DRAWS
    assert (np.abs(frequency - expected) <= 4.5 * np.sqrt(expected * (1 - expected) / DRAWS)).all()
    assert expected.max() > 1.3 * expected.min()  # else equal chances would pass too
    # And the second position, given the first.
    for first in np.argsort(-expected)[:2].tolist():
        own = made.picks[:, 0] == first
        given = np.where(np.arange(8) == first, 0.0, expected) / (1 - expected[first])
        frequency = np.bincount(made.picks[own, 1], minlength=8) / own.sum()
        assert (np.abs(frequency - given) <= 4.5 * np.sqrt(given * (1 - given) / own.sum())).all()
        np.testing.assert_allclose(made.propensity[own, 1], given[made.picks[own, 1]], rtol=1e-3)


@pytest.mark.parametrize("deciding", [NAME, POPULAR, RANDOM])
def test_every_available_item_is_shown_to_somebody_in_a_catalogue_of_many_candidates(deciding: str) -> None:
    catalogue = shop(90, categories=4)
    catalogue.delete(["item-7"])
    rules = SlateRules(holdout=1.0 if deciding == RANDOM else 0.0, candidates=12, random_candidates=4)
    found = recommender(catalogue, rules, None if deciding == POPULAR else POLICY)
    made = slates(found.respond(crowd(4_000), seeds()))
    assert set(made.policy) == {deciding}
    times = Counter(row for slate in shown(made) for row in slate)
    assert set(times) == set(range(90)) - {7}


def test_every_item_of_a_category_is_shown_in_a_catalogue_of_few() -> None:
    found = recommender(shop(30, categories=2), SlateRules(holdout=0.0))
    times = Counter(row for slate in shown(slates(found.respond(crowd(2_000), seeds()))) for row in slate)
    assert set(times) == set(range(30))


def test_a_policy_that_is_sure_shows_what_it_likes_whatever_else_chance_brings() -> None:
    """With few categories, of which a slate holds three items each, too."""
    catalogue = shop(300, categories=3)
    found = recommender(catalogue, SlateRules(holdout=0.0, floor=0.0), untrained_policy(spread=3.0))
    made = slates(found.respond(crowd(200), seeds()))
    running = found._running
    assert running is not None
    with torch.inference_mode():
        users = [found._users.slots.slot(0, f"user-{row % 200}") for row in made.rows.tolist()]
        best = running.best(running.query(running._hidden.values, np.array(users)), 1)[:, 0].tolist()
    assert np.mean([item in slate for item, slate in zip(best, shown(made), strict=True)]) > 0.9


def test_scores_are_the_policys_own_logits() -> None:
    found = recommender(shop(40))
    made = slates(found.respond(crowd(5), seeds()))
    for row in range(len(made)):
        score, weight = made.score[row], made.log_weights[row, made.picks[row]].astype(np.float64)
        share = (np.exp(weight) - PLAIN.floor / 40) / (1 - PLAIN.floor)
        np.testing.assert_allclose(np.diff(np.log(share)), np.diff(score), atol=1e-3)


# Who decides.


def test_new_users_see_what_is_popular_until_they_have_told_enough() -> None:
    found = recommender(shop(9))
    decided = []
    for place, action in enumerate(("impression", "click", "impression", "like")):
        answer = found.respond(engagements([{"number": place, "minute": 10 * place, "action": action}]), seeds())
        decided += slates(answer).policy
    assert decided == [POPULAR, POPULAR, POPULAR, NAME]


def test_without_a_policy_everyone_sees_what_is_popular() -> None:
    found = recommender(shop(500), policy=None)
    found.fold(engagements([{"number": 50 + n, "user": n, "item": 321, "action": "purchase"} for n in range(40)]))
    made = slates(found.respond(crowd(400, action="skip", first=1_000), seeds()))
    assert (found.policy, set(made.policy)) == (POPULAR, {POPULAR})
    times = Counter(row for slate in shown(made) for row in slate)
    assert times.most_common(1)[0][0] == 321


def test_the_holdout_gets_random_slates_for_ever() -> None:
    rules, events = SlateRules(holdout=0.3, most_of_category=100), crowd(300)
    with_policy = slates(recommender(shop(30), rules).respond(events, seeds()))
    without = slates(recommender(shop(30), rules, None).respond(events, seeds()))
    held = in_holdout([events.user_id[row] for row in with_policy.rows.tolist()], 0.3)
    assert [name == RANDOM for name in with_policy.policy] == held.tolist()
    assert [name == RANDOM for name in without.policy] == held.tolist()
    np.testing.assert_allclose(with_policy.log_weights[held], np.log(1 / 30), atol=1e-5)
    np.testing.assert_array_equal(with_policy.picks[held], without.picks[held])


def without_answers(part: str) -> TrainedPolicy:
    """A policy that gives NaN: in the query of users who disliked something, or in the vectors of some items."""
    broken = untrained_policy()
    with torch.no_grad():
        if part == "query":
            broken.network.action.weight[ACTIONS.index("dislike")] = torch.nan
        else:
            broken.network.from_id.weight[shop(4).bucket[3]] = torch.nan
    return broken


def test_a_policy_without_an_answer_for_a_user_leaves_him_to_popularity_and_the_others_to_itself() -> None:
    found = recommender(shop(100), policy=without_answers("query"))
    rows = [
        {"user": user, "action": action}
        for user in (0, 1, 2)
        for action in ("click", "dislike" if user == 1 else "like")
    ]
    made = slates(found.respond(of_user(*rows), seeds()))
    assert made.policy == [NAME, POPULAR, NAME]
    assert made.counts["policy_failed"] == 1


@pytest.mark.parametrize("count", [30, 400])
def test_a_policy_whose_likings_are_no_numbers_leaves_the_user_to_popularity(count: int) -> None:
    found = recommender(shop(count), policy=without_answers("vector"))
    made = slates(found.respond(crowd(200), seeds()))
    assert len(made) == 200
    assert made.counts["policy_failed"] == made.policy.count(POPULAR) > 0
    assert np.isfinite(made.score).all()
    if count == 30:
        assert set(made.policy) == {POPULAR}


def test_the_holdout_does_not_count_as_failed() -> None:
    found = recommender(shop(100), SlateRules(holdout=1.0), without_answers("query"))
    made = slates(found.respond(crowd(5, action="dislike"), seeds()))
    assert set(made.policy) == {RANDOM}
    assert made.counts["policy_failed"] == 0


# What may not be shown.


def test_what_was_bought_or_disliked_is_never_shown_again_even_where_nothing_else_is_left() -> None:
    found = recommender(shop(3), SlateRules(holdout=0.0))
    slates(found.respond(of_user({"item": 0, "action": "purchase"}, {"item": 1, "action": "dislike"}), seeds()))
    made = slates(found.respond(of_user({"item": 2}, first=10), seeds()))
    assert shown(made) == [[2]]
    assert (made.counts["bought"], made.counts["disliked"]) == (1, 1)
    assert found.respond(of_user({"item": 2, "action": "purchase"}, first=20), seeds()).slates is not None
    assert len(slates(found.respond(of_user({"item": 2}, first=30), seeds()))) == 0


def test_an_item_that_was_shown_often_rests_for_a_day() -> None:
    found = recommender(shop(20), SlateRules(holdout=0.0))
    impressions = [{"item": 4, "action": "impression", "minute": place} for place in range(3)]
    made = slates(found.respond(of_user(*impressions, {"item": 5, "minute": 4}), seeds()))
    assert made.log_weights[0, 4] == -np.inf
    assert made.counts["shown_too_often"] == 1
    later = slates(found.respond(of_user({"item": 5, "minute": 4 + 24 * 60}, first=10), seeds()))
    assert np.isfinite(later.log_weights[0]).all()


def test_no_slate_holds_more_than_three_items_of_a_category() -> None:
    catalogue = shop(200, categories=4)
    made = slates(recommender(catalogue, SlateRules()).respond(crowd(300), seeds()))
    for slate in shown(made):
        assert max(Counter(catalogue.category[slate].tolist()).values()) <= 3
        assert len(slate) == 6


def test_a_shop_of_one_category_still_fills_its_slates() -> None:
    made = slates(recommender(shop(20, categories=1), SlateRules()).respond(crowd(3), seeds()))
    assert [len(slate) for slate in shown(made)] == [6, 6, 6]
    assert made.counts["lifted"] == 3


# Odd catalogues and batches.


def test_an_empty_catalogue_gives_no_slates_and_the_users_move_on() -> None:
    catalogue = Catalogue()
    found, saw = recommender(catalogue), recommender(shop(9))
    assert found.respond(crowd(3), seeds()).slates is None
    assert found.resident_users == 3
    catalogue.put(items(9))
    assert len(slates(found.respond(crowd(3, first=50), seeds()))) == 3
    assert len(slates(saw.respond(crowd(3), seeds()))) == 3


def test_a_catalogue_without_available_items_gives_no_slates() -> None:
    catalogue = Catalogue()
    catalogue.put([Item("a", available=False)])
    assert recommender(catalogue).respond(crowd(2), seeds()).slates is None


def test_what_is_sold_out_is_not_shown_from_the_next_batch_on_and_a_new_item_is() -> None:
    catalogue = shop(10)
    found = recommender(catalogue)
    made = slates(found.respond(crowd(100), seeds()))
    assert {row for slate in shown(made) for row in slate} == set(range(10))
    catalogue.put([Item("item-3", available=False), Item("new")])
    made = slates(found.respond(crowd(100, first=1_000), seeds()))
    assert {row for slate in shown(made) for row in slate} == {*range(11)} - {3}


def test_unknown_items_are_counted_and_answered() -> None:
    answer = recommender(shop(5)).respond(engagements([{"item": 77}, {"item": 78}, {"item": 1}]), seeds())
    assert answer.unknown_items == 2
    assert len(slates(answer)) == 1


def test_batches_of_nothing_are_answered() -> None:
    answer = recommender(shop(5)).respond(engagements([]), seeds())
    assert (len(answer.duplicate), answer.slates, answer.unknown_items) == (0, None, 0)


@pytest.mark.parametrize("minute", [-29_000_000, 3_000_000_000])
def test_an_engagement_from_another_age_is_answered(minute: int) -> None:
    """From 1970, or far from it; the stream refuses what is much later than its record."""
    found = recommender(shop(100))
    found.fold(crowd(5))
    assert len(slates(found.respond(engagements([{"number": 900, "user": 9, "minute": minute}]), seeds()))) == 1
    assert len(slates(found.respond(crowd(5, first=1_000), seeds()))) == 5


# State.


@settings(max_examples=30)
@given(engagement_logs(partitions=2), st.lists(st.integers(0, 60), max_size=4))
def test_responding_moves_the_state_as_folding_does(events: Engagements, places: list[int]) -> None:
    answered, folded = recommender(shop(9)), recommender(shop(9))
    for batch in cut(events, places):
        answered.respond(batch, seeds())
    folded.fold(events)
    assert answered.resident_users == folded.resident_users
    for name, array in folded._users.arena.arrays.items():
        if name != "slate_at":
            owners = set(zip(events.partition.tolist(), events.user_id, strict=True))
            own, other = ([found._users.slots.slot(*o) for o in sorted(owners)] for found in (folded, answered))
            assert array[own].tobytes() == answered._users.arena.arrays[name][other].tobytes()
    np.testing.assert_allclose(answered._popularity.of_all(9), folded._popularity.of_all(9), rtol=1e-9, atol=1e-12)


def test_dropping_a_partition_forgets_its_users_and_what_they_made_popular() -> None:
    found = recommender(shop(9), policy=None)
    found.fold(engagements([{"number": n, "partition": n % 2, "user": n, "action": "purchase"} for n in range(6)]))
    before = found._popularity.of_all(9)[0]
    found.drop_partition(0)
    assert found.resident_users == 3
    assert 0 < found._popularity.of_all(9)[0] < before
    found.drop_partition(1)
    assert found.resident_users == 0
    assert found._popularity.of_all(9)[0] == 0
    made = slates(found.respond(engagements([{"user": 0}]), seeds()))
    assert made.counts["bought"] == 0


def test_state_takes_at_most_2_kilobytes_a_user() -> None:
    found = recommender(shop(3), policy=untrained_policy(hidden=64))
    assert found.state_bytes_per_user <= 2048
    assert found.state_bytes_per_user - recommender(shop(3), policy=None).state_bytes_per_user == 64 * 4 + 1


# Helpers.


@given(st.lists(st.lists(st.integers(-1, 6), min_size=5, max_size=5), min_size=1, max_size=5))
def test_of_what_occurs_twice_the_first_stays(rows: list[list[int]]) -> None:
    found = without_repeats(np.array(rows))
    for row, own in zip(rows, found.tolist(), strict=True):
        assert own == [item if item not in row[:place] else -1 for place, item in enumerate(row)]
