"""The gate: its measures against their definitions, its verdicts on pairs whose better model is known."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from models.gate import Comparison, Decision, GateRules, JudgedEvents, Kind, Ranking, Verdict, decide, judge
from models.metrics import average_precision

#: Few different scores and accounts, so that ties and accounts with several events are common.
rows = st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 5)), min_size=1, max_size=40)
Rows = list[tuple[int, bool, int]]
KINDS: tuple[Kind, ...] = ("refresh", "design")


def columns(of: Rows) -> tuple[Any, Any, Any]:
    scores, fraud, account = zip(*of, strict=True)
    return np.array(scores, float) / 6, np.array(fraud, bool), np.array(account, np.int64)


def pair(draw: np.random.Generator, *, worse: float = 0.0, accounts: int = 250, noise: float = 0.4) -> JudgedEvents:
    """Two models that see the same with an error of their own. Frauds gather in some accounts; `worse` is how much
    lower the challenger scores them."""
    account = np.repeat(np.arange(accounts), draw.poisson(8, accounts))
    fraud = draw.random(len(account)) < 0.27 * (draw.random(accounts) < 0.15)[account]
    seen = 2.0 * fraud + draw.normal(0, 0.5, accounts)[account] + draw.normal(0, 0.8, len(account))
    errors = draw.normal(0, noise, (2, len(account)))
    return JudgedEvents(fraud, account, seen + errors[0], seen - worse * fraud + errors[1], budget_share=0.02)


def verdict_of(judged: JudgedEvents, kind: Kind, seed: int = 0, **rules: Any) -> Verdict:
    return judge(judged, kind, GateRules(**({"resamples": 100} | rules)), np.random.default_rng(seed))


def swapped(judged: JudgedEvents) -> JudgedEvents:
    return JudgedEvents(judged.fraud, judged.account, judged.challenger, judged.champion, judged.budget_share)


@given(rows, st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_to_count_an_account_several_times_is_to_repeat_its_events(of: Rows, times: list[int]) -> None:
    scores, fraud, account = columns(of)
    often = np.array(times, np.int32)
    repeated = np.repeat(np.arange(len(of)), often[account])
    measured, share = Ranking(scores, fraud, account).measures(often, 0.3), 0.3
    if not fraud[repeated].any():
        assert np.isnan(measured).all()
        return
    expected = average_precision(scores[repeated], fraud[repeated])
    assert measured[0] == pytest.approx(expected)
    assert measured[1] == pytest.approx(plain_precision(scores[repeated], fraud[repeated], share))


def plain_precision(scores: Any, fraud: Any, share: float) -> float:
    """Taken from the highest group down; of the group that does not fit, the share that does."""
    budget = left = share * len(scores)
    hits = 0.0
    for score in sorted(set(scores.tolist()), reverse=True):
        group = fraud[scores == score]
        part = min(1.0, left / len(group))
        hits, left = hits + part * group.sum(), left - part * len(group)
    return hits / budget


def test_of_equal_scores_at_the_end_of_the_budget_a_share_counts() -> None:
    scores, fraud = np.array([0.9, 0.5, 0.5, 0.5, 0.5, 0.1]), np.array([True, True, False, False, False, False])
    ranking = Ranking(scores, fraud, np.arange(6))
    assert ranking.measures(np.ones(6, np.int32), 3 / 6)[1] == pytest.approx((1 + 2 / 4) / 3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_challenger_replaces_a_blind_champion_and_never_the_other_way_round(kind: Kind) -> None:
    judged = pair(np.random.default_rng(1))
    perfect = JudgedEvents(judged.fraud, judged.account, judged.champion * 0, judged.fraud * 1.0, budget_share=0.02)

    forward, backward = verdict_of(perfect, kind), verdict_of(swapped(perfect), kind)

    assert (forward.decision, backward.decision) == ("promote", "refuse")
    assert forward.average_precision is not None
    assert forward.average_precision.challenger == 1.0
    assert forward.average_precision.champion == pytest.approx(judged.fraud.mean())
    assert (forward.events, forward.frauds) == (len(judged.fraud), int(judged.fraud.sum()))


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from([lambda s: s, lambda s: np.exp(s / 2) + 1]))
def test_identical_rankings_are_promoted_as_a_refresh_and_never_as_a_design(seed: int, same: Any) -> None:
    judged = pair(np.random.default_rng(seed))
    assume(judged.fraud.sum() >= 30)
    judged = JudgedEvents(judged.fraud, judged.account, judged.champion, same(judged.champion), 0.02)

    refresh, design = verdict_of(judged, "refresh", seed), verdict_of(judged, "design", seed)

    assume(refresh.accounts_with_fraud >= 20)
    assert (refresh.decision, design.decision) == ("promote", "refuse")
    assert refresh.average_precision is not None
    assert (refresh.average_precision.low, refresh.average_precision.high) == (0.0, 0.0)


def few(judged: JudgedEvents) -> Verdict:
    """However few frauds and accounts there are."""
    return verdict_of(judged, "refresh", least_frauds=1, least_accounts=1)


@settings(max_examples=20)
@given(st.integers(0, 10_000))
@example(2846)  # frauds of too few accounts for the rules as they come
def test_exchanging_the_models_turns_the_interval_around_and_the_order_of_rows_does_not_matter(seed: int) -> None:
    draw = np.random.default_rng(seed)
    judged = pair(draw, worse=0.1)
    order = draw.permutation(len(judged.fraud))
    columns = (judged.fraud, judged.account, judged.champion, judged.challenger)
    shuffled = JudgedEvents(*(column[order] for column in columns), judged.budget_share)  # type: ignore[arg-type]
    first, back, other = (few(each) for each in (judged, swapped(judged), shuffled))
    for name in ("average_precision", "precision_at_budget"):
        one, two, three = (getattr(verdict, name) for verdict in (first, back, other))
        assert (one.low, one.high) == pytest.approx((-two.high, -two.low))
        assert (one.low, one.high) == pytest.approx((three.low, three.high))


@pytest.mark.slow
@pytest.mark.parametrize(("worse", "true_loss"), [(0.0, 0.0), (0.05, 0.020)])
def test_a_challenger_at_the_bound_is_hardly_ever_promoted(worse: float, true_loss: float) -> None:
    """Its true loss is the margin itself (measured on five million events), so each promotion is a false one: 2.5 of
    100 by the interval's definition, 2.3 to 4.2 measured on 300 to 1,200 pairs. 16 of 200 is beyond chance."""
    draw = np.random.default_rng(7)
    kind: Kind = "refresh" if true_loss else "design"
    decisions = [verdict_of(pair(draw, worse=worse), kind, margin=true_loss).decision for _ in range(200)]
    assert decisions.count("promote") < 16
    assert decisions.count("refuse") < 16  # the interval has two ends


def test_a_much_worse_challenger_is_refused_and_a_much_better_one_promoted() -> None:
    draw = np.random.default_rng(3)
    for _ in range(10):
        judged = pair(draw, worse=1.0, accounts=300)
        assert verdict_of(judged, "refresh").decision == "refuse"
        assert verdict_of(swapped(judged), "design").decision == "promote"


def test_without_enough_frauds_in_enough_accounts_there_is_no_verdict() -> None:
    judged = pair(np.random.default_rng(1))
    frauds = int(judged.fraud.sum())
    few = verdict_of(judged, "refresh", least_frauds=frauds + 1)
    enough = verdict_of(judged, "refresh", least_frauds=frauds)
    assert few.decision == "not enough evidence"
    assert few.reason == f"{frauds} frauds to judge by, at least {frauds + 1} are needed"
    assert few.average_precision is None
    assert enough.average_precision is not None
    gathered = verdict_of(judged, "refresh", least_frauds=1, least_accounts=enough.accounts_with_fraud + 1)
    assert gathered.decision == "not enough evidence"
    everything = JudgedEvents(judged.fraud | True, judged.account, judged.champion, judged.challenger, 0.02)
    assert verdict_of(everything, "refresh").reason == "no legitimate events to judge by"


SAME = Comparison(0.5, 0.5, -0.01, 0.01)


@pytest.mark.parametrize(
    ("kind", "low", "high", "at_budget", "expected"),
    [
        ("refresh", -0.019, 0.01, SAME, "promote"),
        ("refresh", -0.020, 0.01, SAME, "not enough evidence"),
        ("refresh", -0.030, -0.021, SAME, "refuse"),
        ("refresh", -0.001, 0.01, Comparison(0.5, 0.4, -0.15, -0.05), "refuse"),
        ("refresh", -0.001, 0.01, Comparison(0.5, 0.4, -0.15, 0.05), "promote"),
        ("design", 0.001, 0.02, SAME, "promote"),
        ("design", 0.000, 0.02, SAME, "not enough evidence"),
        ("design", -0.01, 0.000, SAME, "refuse"),
        ("design", 0.001, 0.02, Comparison(0.5, 0.4, -0.15, -0.001), "refuse"),
    ],
)
def test_the_bound_of_the_interval_decides(
    kind: Kind, low: float, high: float, at_budget: Comparison, expected: Decision
) -> None:
    decision, reason = decide(Comparison(0.7, 0.7, low, high), at_budget, kind, GateRules())
    assert decision == expected
    assert "95% interval" in reason


def test_the_same_seed_gives_the_same_verdict() -> None:
    judged = pair(np.random.default_rng(2))
    assert verdict_of(judged, "refresh", seed=5) == verdict_of(judged, "refresh", seed=5)
    assert verdict_of(judged, "refresh", seed=5) != verdict_of(judged, "refresh", seed=6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"champion": np.array([0.1, np.nan])}, "no finite number"),
        ({"challenger": np.array([0.1])}, "equally many"),
        ({"budget_share": 0.0}, "budget"),
    ],
)
def test_what_cannot_be_judged_is_refused(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        **{"fraud": np.array([True, False]), "account": np.array([0, 1])},
        **{"champion": np.array([0.1, 0.2]), "challenger": np.array([0.1, 0.2]), "budget_share": 0.5},
    }
    JudgedEvents(**good)
    with pytest.raises(ValueError, match=message):
        JudgedEvents(**(good | change))
