"""The gate of policies: what it promotes, what it refuses and why, and what it does not look at."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.off_policy import Estimate, EvaluatedPolicy, Rewards
from models.policy_evidence import EstimatedDifference, Evidence, gather, weigh
from models.policy_gate import Decision, Kind, PolicyGateRules, PolicyVerdict, decide, judge
from tests.models.slate_logs import CHALLENGER, CHAMPION, DAY, Log, log, true_value

GOOD = EstimatedDifference(1.0, 1.2, 0.02)


def evidence(**changes: Any) -> Evidence:
    """A difference of +0.2 that nothing speaks against."""
    names = ("ips", "snips", "cascade", "item_position", "doubly_robust", "doubly_robust_clipped")
    good: dict[str, Any] = {
        **{"slates": 10_000, "users": 500, "effective_sample_size": 8_000.0, "effective_rewards": 800.0},
        **{"effective_slates": 8_000.0, "effective_rewarded_slates": 800.0},
        **{"mean_weights": (Estimate(1.0, 0.0), Estimate(1.01, 0.01))},
        **{"estimators": dict.fromkeys(names, GOOD), "gaps": dict.fromkeys(names, Estimate(0.0, 0.01))},
    }
    return Evidence(**(good | changes))


def decided(found: Evidence, kind: Kind = "design") -> PolicyVerdict:
    return decide(found, kind, PolicyGateRules(), 0.025)


def with_estimate(name: str, difference: float, gap: float) -> Evidence:
    found = evidence()
    estimators = {**found.estimators, name: replace(GOOD, challenger=1.0 + difference)}
    return replace(found, estimators=estimators, gaps={**found.gaps, name: Estimate(gap, 0.01)})


def robust(difference: float) -> Evidence:
    names = evidence().estimators
    return evidence(estimators=dict.fromkeys(names, replace(GOOD, challenger=1.0 + difference)))


def verdict_of(made: Log, kind: Kind = "design", **options: Any) -> PolicyVerdict:
    return judge(made.slates, made.champion, made.challenger, kind, **({"trained_until": -1} | options))


def swapped(made: Log) -> Log:
    return Log(made.slates, made.challenger, made.champion)


def test_a_better_challenger_is_promoted_and_a_worse_one_refused_for_good() -> None:
    made = log(8_000, 1)
    assert true_value(CHALLENGER) > true_value(CHAMPION)
    better, worse = verdict_of(made), verdict_of(swapped(made))
    assert (better.decision, worse.decision) == ("promote", "refuse")
    assert better.settled
    assert worse.settled
    assert better.low < true_value(CHALLENGER) - true_value(CHAMPION) < better.high
    assert "better" in better.reasons[0]
    assert "no better" in worse.reasons[0]


def test_a_policy_as_good_as_the_champion_passes_as_a_refresh_but_never_as_a_new_design() -> None:
    made = log(8_000, 2)
    same = Log(made.slates, made.champion, made.champion)
    assert verdict_of(same, "refresh").decision == "promote"
    assert verdict_of(same, "design").decision == "refuse"


@pytest.mark.parametrize(
    ("kind", "difference", "expected"),
    [
        ("design", 0.2, "promote"),
        ("design", 0.03, "not enough evidence"),
        ("design", -0.03, "not enough evidence"),
        ("design", -0.2, "refuse"),
        ("refresh", 0.1, "promote"),
        ("refresh", 0.03, "not enough evidence"),
        ("refresh", -0.2, "refuse"),
    ],
)
def test_the_bounds_decide(kind: Kind, difference: float, expected: Decision) -> None:
    verdict = decided(robust(difference), kind)
    assert verdict.decision == expected
    assert verdict.settled == (expected != "not enough evidence")
    assert verdict.floor == (-0.02 if kind == "refresh" else 0.0)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (evidence(effective_rewards=399.0), "399 rewards"),
        (evidence(mean_weights=(Estimate(1.0, 0.0), Estimate(0.95, 0.01))), "challenger's mean weight is 0.950"),
        (evidence(mean_weights=(Estimate(1.0, 0.0), Estimate(1.12, 0.10))), "challenger's mean weight is 1.120"),
        (evidence(mean_weights=(Estimate(0.9, 0.01), Estimate(1.0, 0.0))), "champion's mean weight is 0.900"),
        (with_estimate("cascade", -0.01, 0.21), "contradict"),
        (with_estimate("snips", -0.01, 0.21), "contradict"),
        (with_estimate("item_position", -0.01, 0.21), "contradict"),
        (with_estimate("doubly_robust_clipped", -0.01, 0.0), "clipped at 20"),
    ],
)
def test_evidence_that_cannot_be_trusted_is_refused_with_its_reason_and_may_be_looked_at_again(
    found: Evidence, reason: str
) -> None:
    assert decided(evidence()).decision == "promote"
    verdict = decided(found)
    assert verdict.decision == "refuse"
    assert reason in verdict.reasons[0]
    assert "does not count" in verdict.reasons[-1]
    assert not verdict.settled


@pytest.mark.parametrize(
    "found",
    [
        evidence(mean_weights=(Estimate(1.0, 0.0), Estimate(0.97, 0.02))),
        with_estimate("cascade", -0.01, 0.02),  # within the noise
        with_estimate("cascade", 0.05, 0.15),  # apart, but on the same side
        replace(with_estimate("cascade", -0.01, 0.21), effective_rewarded_slates=100.0),  # says nothing
        with_estimate("ips", -0.01, 0.21),  # snips speaks for whole slates
    ],
)
def test_what_is_explained_by_noise_or_has_no_say_is_no_reason_to_refuse(found: Evidence) -> None:
    assert decided(found).decision == "promote"


@pytest.mark.parametrize("above", [0.0, 0.3])
def test_items_that_change_each_others_reward_show_as_a_gap_between_the_estimators(above: float) -> None:
    made, rules = log(40_000, 4, above=above), PolicyGateRules()
    gap = gather(made.slates, made.champion, made.challenger, clip=rules.clip, fit=rules.fit).gaps["cascade"]
    assert (abs(gap.value) > 4 * gap.standard_error) == (above > 0)


def test_a_challenger_that_would_show_what_could_not_be_logged_is_refused() -> None:
    made = log(8_000, 5)
    blocked = made.slates.log_weights.copy()
    rows = (made.slates.picks != 3).all(axis=1)
    blocked[:, 3] = -np.inf
    slates = replace(made.slates, log_weights=blocked).take(np.flatnonzero(rows))
    verdict = judge(slates, blocked[rows], made.challenger[rows], "design", trained_until=-1)
    assert verdict.decision == "refuse"
    assert "mean weight" in verdict.reasons[0]


def test_only_matured_slates_from_after_the_training_count() -> None:
    made = log(6_000, 6)
    counted = (made.slates.made_at > 2 * DAY) & (np.arange(6_000) % 3 > 0)
    nonsense = np.where(counted[:, None], made.slates.reward, 1e6)
    slates = replace(made.slates, matured=(np.arange(6_000) % 3 > 0), reward=nonsense)
    found = verdict_of(replace(made, slates=slates), trained_until=2 * DAY)
    rows = np.flatnonzero(counted)
    alone = judge(made.slates.take(rows), made.champion[rows], made.challenger[rows], "design", trained_until=-1)
    assert found == alone
    assert found.evidence is not None
    assert found.evidence.slates == counted.sum()


def test_a_slate_of_the_last_moment_of_training_does_not_count() -> None:
    made = log(2_000, 6, users=150)
    last = int(made.slates.made_at[500])
    found = verdict_of(made, trained_until=last).evidence
    assert found is not None
    assert found.slates == int((made.slates.made_at > last).sum())


def test_the_margin_of_a_refresh_allows_for_worse_also_where_rewards_are_negative() -> None:
    negative = EstimatedDifference(-1.0, -1.0, 0.001)
    verdict = decided(evidence(estimators=dict.fromkeys(evidence().estimators, negative)), "refresh")
    assert (verdict.floor, verdict.decision) == (-0.02, "promote")


def test_too_few_users_are_no_evidence() -> None:
    verdict = verdict_of(log(5_000, 7, users=99))
    assert verdict.decision == "not enough evidence"
    assert verdict.reasons == ("Only 99 users have matured slates to judge by; at least 100 are needed.",)
    assert verdict.evidence is None
    assert not verdict.settled
    nothing = verdict_of(log(5_000, 7), trained_until=99 * DAY)
    assert nothing.reasons == ("Only 0 users have matured slates to judge by; at least 100 are needed.",)


def test_later_challengers_need_more_evidence() -> None:
    made = log(2_000, 8)
    first, tenth = verdict_of(made), verdict_of(made, number=10)
    assert (first.error, tenth.error) == pytest.approx((0.025, 0.05 / 110))
    assert tenth.low < first.low
    assert tenth.high > first.high


def test_features_of_the_caller_predict_rewards_and_narrow_the_difference() -> None:
    made = log(20_000, 9)
    kind = (made.slates.user % 2)[:, None, None]
    features = np.concatenate([np.broadcast_to(np.eye(4), (20_000, 4, 4)) * (kind == k) for k in (0, 1)], axis=2)
    blind = verdict_of(made, features=np.zeros((20_000, 4, 1)))
    seeing = verdict_of(made, features=features)
    assert blind.evidence is not None
    assert seeing.evidence is not None
    errors = [found.evidence.estimators["doubly_robust"].standard_error for found in (blind, seeing)]
    assert errors[1] < 0.99 * errors[0]
    assert seeing.evidence.estimators["item_position"] == blind.evidence.estimators["item_position"]


def test_weights_of_single_items_are_judged_by_the_same_rules() -> None:
    """As of one log without its distributions: a few huge weights are refused, even ones decide."""
    draw = np.random.default_rng(0)
    reward = (draw.random(10_000) < 0.1).astype(float)
    rewards = Rewards.of_single_items(np.arange(10_000), reward)
    champion = EvaluatedPolicy.of_single_items(np.ones(10_000))
    huge = np.zeros(10_000)
    huge[:2] = 5_000.0
    verdict = decided(weigh(rewards, champion, EvaluatedPolicy.of_single_items(huge), clip=20.0))
    assert verdict.decision == "refuse"
    assert "worth 2 equal ones" in verdict.reasons[0]
    twice = EvaluatedPolicy.of_single_items(np.where(reward > 0, 2.0, 1.0) / (1 + reward.mean()))
    assert decided(weigh(rewards, champion, twice, clip=20.0)).decision == "promote"


def test_the_figures_of_a_verdict_are_plain_json_with_the_estimand() -> None:
    made = log(3_000, 10)
    told = json.loads(json.dumps(verdict_of(made).figures(), allow_nan=False))
    assert "one-step deviations" in told["estimand"]
    robust = told["estimators"]["doubly_robust"]
    assert robust["difference"] == pytest.approx(robust["challenger"] - robust["champion"])
    assert told["reward_per_slate"]["low"] < robust["difference"] < told["reward_per_slate"]["high"]
    few = json.loads(json.dumps(verdict_of(log(50, 1)).figures(), allow_nan=False))
    assert few["decision"] == "not enough evidence"
