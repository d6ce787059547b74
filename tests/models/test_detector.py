"""The network: steps equal sequences, inputs are bounded, and a surprise means what its description says."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.detector import (
    AMOUNT,
    AMOUNT_TO_USUAL,
    EMBEDDINGS,
    HISTORY,
    INPUTS,
    LARGEST_INPUT,
    MEMO_SIZE,
    SURPRISES,
    Detector,
    rarity,
)
from models.feature_schema import CATEGORIES, CATEGORY_BUCKETS, FEATURES, MEMO_PARTS
from models.merchant_labels import LABEL_FEATURES
from models.recurrence import CACHED_ROWS, NARROW_WAVE
from models.text_encoder import DistinctTexts
from tests.models.logs import untrained

HIDDEN = 8


@pytest.fixture(scope="module")
def network() -> Detector:
    return untrained(HIDDEN).network


def random_inputs(count: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, INPUTS)).astype(np.float32))


def random_categories(count: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, CATEGORY_BUCKETS, (count, len(CATEGORY_BUCKETS))))


@settings(max_examples=20)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=2 * NARROW_WAVE), st.integers(0, 100))
def test_wide_and_narrow_waves_give_what_single_steps_give(events_of_accounts: list[int], seed: int) -> None:
    network, lengths = untrained(HIDDEN).network, sorted(events_of_accounts, reverse=True)
    wave_sizes = [sum(length > wave for length in lengths) for wave in range(lengths[0])]
    x, start = random_inputs(sum(lengths), seed), torch.randn(len(lengths), HIDDEN)

    with torch.inference_mode():
        after = network.steps(x, wave_sizes, start)
        states, at = start.clone(), 0
        for size in wave_sizes:
            for account in range(size):
                states[account] = network.step(x[at + account][None], states[account][None])[0]
            torch.testing.assert_close(after[at : at + size], states[:size], rtol=0, atol=1e-5)
            at += size


@pytest.mark.parametrize("rows", [1, CACHED_ROWS, CACHED_ROWS + 1, 3 * CACHED_ROWS - 1])
def test_a_step_of_many_rows_gives_what_steps_of_few_give(network: Detector, rows: int) -> None:
    x, start = random_inputs(rows), torch.randn(rows, HIDDEN)
    with torch.inference_mode():
        after = network.step(x, start)
        apart = torch.cat([network.step(x[row][None], start[row][None]) for row in range(rows)])
    torch.testing.assert_close(after, apart, rtol=0, atol=1e-5)


def test_inputs_are_standardised_bounded_and_as_wide_as_the_network_expects(network: Detector) -> None:
    features = torch.full((3, len(FEATURES)), 1e6)
    features[1], features[2] = -1e6, network.mean_F
    x = network.inputs(features, random_categories(3), None)
    assert x.shape == (3, INPUTS)
    own = x[:, : len(FEATURES)]
    assert (own[0] == LARGEST_INPUT).all()
    assert (own[1] == -LARGEST_INPUT).all()
    assert (own[2] == 0).all()


def test_a_feature_that_does_not_vary_keeps_its_scale(network: Detector) -> None:
    sample = torch.randn(500, len(FEATURES)) * 3 + 5
    sample[:, 4] = 7.0
    fresh = Detector(network.config)
    fresh.standardise_by(sample, torch.zeros(len(sample), len(LABEL_FEATURES)))
    assert fresh.scale_F[4] == 1.0
    assert fresh.mean_F[4] == 7.0
    x = fresh.inputs(sample, random_categories(500), None)[:, : len(FEATURES)]
    torch.testing.assert_close(x.mean(0), torch.zeros(len(FEATURES)), rtol=0, atol=1e-4)
    torch.testing.assert_close(x[:, 5].std(), torch.tensor(1.0), rtol=0, atol=1e-3)


def test_a_history_of_minutes_does_not_make_the_rest_of_the_day_look_extreme(network: Detector) -> None:
    sample, hour = torch.randn(500, len(FEATURES)), FEATURES.index("hour_sin")
    sample[:, hour] = torch.linspace(0.50, 0.52, 500)
    fresh = Detector(network.config)
    fresh.standardise_by(sample, torch.zeros(len(sample), len(LABEL_FEATURES)))
    elsewhere = sample[:1].clone()
    elsewhere[0, hour] = -1.0
    assert fresh.inputs(elsewhere, random_categories(1), None)[0, hour].abs() < 5


def memo_of_row(row: int, parts: list[int]) -> DistinctTexts:
    return DistinctTexts(np.array([row]), np.array([0]), np.array([parts]))


def test_no_memos_and_empty_memos_are_the_same(network: Detector) -> None:
    features, categories = torch.randn(4, len(FEATURES)), random_categories(4)
    empty = network.inputs(features, categories, memo_of_row(2, [0] * MEMO_PARTS))
    assert torch.equal(empty, network.inputs(features, categories, None))


def test_every_category_and_memo_moves_its_own_columns(network: Detector) -> None:
    features, categories = torch.zeros(1, len(FEATURES)), torch.ones(1, len(CATEGORY_BUCKETS), dtype=torch.int64)
    before, start = network.inputs(features, categories, None), len(FEATURES)
    for name, size in EMBEDDINGS.items():
        other = categories.clone()
        other[0, CATEGORIES.index(name)] = 2
        changed = (network.inputs(features, other, None) != before)[0]
        assert changed.nonzero()[:, 0].tolist() == list(range(start, start + size))
        start += size
    changed = (network.inputs(features, categories, memo_of_row(0, [1] * MEMO_PARTS)) != before)[0]
    assert changed.nonzero()[:, 0].tolist() == list(range(start, start + MEMO_SIZE))


def surprise_of(network: Detector, before: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.inference_mode():
        terms, unusual = network.surprise(before, x, torch.ones(len(x), len(CATEGORY_BUCKETS), dtype=torch.int64))
    return terms, unusual


def rising(column: int, values: Tensor, history: float = 5.0) -> Tensor:
    """Inputs that differ in one column only."""
    x = torch.zeros(len(values), INPUTS)
    x[:, HISTORY] = history
    x[:, column] = values
    return x


def expecting(network: Detector, amount: float, log_deviation: float) -> Detector:
    """The same network with a fixed expectation of the amount, whatever the state."""
    changed = Detector(network.config)
    changed.load_state_dict(network.state_dict())
    with torch.no_grad():
        changed.expectation.weight.zero_()
        changed.expectation.bias[0], changed.expectation.bias[1] = amount, log_deviation
    return changed


def test_there_is_one_surprise_each_for_amount_gap_category_and_merchant(network: Detector) -> None:
    terms, unusual = surprise_of(network, torch.zeros(6, HIDDEN), random_inputs(6))
    assert terms.shape == (6, SURPRISES)
    assert unusual.shape == (6,)


@settings(max_examples=30)
@given(st.floats(-2, 2), st.floats(-4, 2), st.integers(0, 20))
def test_an_amount_further_above_the_usual_is_never_less_unusual(mean: float, deviation: float, seed: int) -> None:
    network = expecting(untrained(HIDDEN).network, mean, deviation)
    amounts = torch.linspace(-LARGEST_INPUT, LARGEST_INPUT, 400)
    before = torch.randn(1, HIDDEN, generator=torch.Generator().manual_seed(seed)).expand(400, -1)
    _, unusual = surprise_of(network, before, rising(AMOUNT_TO_USUAL, amounts))
    assert (unusual.diff() >= -1e-4).all()


@pytest.mark.parametrize("deviation", [-2.5, 0.0, 2.0])
def test_a_rounding_error_in_an_amount_hardly_changes_how_unusual_it_is(network: Detector, deviation: float) -> None:
    expected = 0.7
    amounts = torch.tensor([expected - 1e-6, expected + 1e-6])
    fixed = expecting(network, expected, deviation)
    _, unusual = surprise_of(fixed, torch.zeros(2, HIDDEN), rising(AMOUNT_TO_USUAL, amounts))
    assert abs(float(unusual[1] - unusual[0])) < 1e-4


def test_an_amount_below_the_usual_is_not_unusual_for_being_low(network: Detector) -> None:
    fixed = expecting(network, 0.0, 0.0)
    _, unusual = surprise_of(fixed, torch.zeros(2, HIDDEN), rising(AMOUNT_TO_USUAL, torch.tensor([-8.0, 0.0])))
    assert unusual[0] == unusual[1]


@pytest.mark.parametrize(("rarer", "other"), [(AMOUNT, AMOUNT_TO_USUAL), (AMOUNT_TO_USUAL, AMOUNT)])
def test_the_rarer_of_an_amount_and_its_distance_from_the_usual_decides(
    network: Detector, rarer: int, other: int
) -> None:
    ordinary, rare, rare_and_large = torch.zeros(3, INPUTS).split(1)
    rare[0, rarer] = 6.0
    rare_and_large[0, rarer], rare_and_large[0, other] = 6.0, 5.0
    categories = torch.ones(3, len(CATEGORY_BUCKETS), dtype=torch.int64)
    with torch.inference_mode():
        x = torch.cat([ordinary, rare, rare_and_large])
        _, unusual = network.surprise(torch.zeros(3, HIDDEN), x, categories)
    assert unusual[1] > unusual[0] + 4
    assert unusual[2] == unusual[1]


def test_rarity_is_the_logarithm_of_how_few_are_larger(network: Detector) -> None:
    draw = torch.Generator().manual_seed(0)
    sample = torch.randn(200_000, len(FEATURES), generator=draw)
    changed = Detector(network.config)
    changed.standardise_by(sample, torch.zeros(len(sample), len(LABEL_FEATURES)))
    amounts = (sample[:, AMOUNT] - changed.mean_F[AMOUNT]) / changed.scale_F[AMOUNT]
    common = rarity(torch.tensor([0.0]), changed.amount_knots)
    found = rarity(torch.quantile(amounts, torch.tensor([0.95, 0.99, 0.999])), changed.amount_knots)
    assert common.item() == 0
    assert found.tolist() == pytest.approx(np.log([2, 10, 100]).tolist(), abs=0.1)


def test_the_likeliest_merchant_surprises_least(network: Detector) -> None:
    fixed = expecting(network, 0.0, 0.0)
    with torch.no_grad():
        fixed.expectation.bias[4 + 32 + 7] = 9.0
    categories = torch.ones(2, len(CATEGORY_BUCKETS), dtype=torch.int64)
    categories[:, 0] = torch.tensor([7, 8])
    with torch.inference_mode():
        terms, _ = fixed.surprise(torch.zeros(2, HIDDEN), torch.zeros(2, INPUTS), categories)
    assert terms[0, 3] < 1 < terms[1, 3]


@pytest.mark.cuda
def test_the_network_answers_alike_on_cuda(network: Detector) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    x, before, categories = random_inputs(200), torch.randn(200, HIDDEN), random_categories(200)
    copy = untrained(HIDDEN).network.cuda()
    with torch.inference_mode():
        here = network.step(x, before), *network.surprise(before, x, categories)
        there = copy.step(x.cuda(), before.cuda()), *copy.surprise(before.cuda(), x.cuda(), categories.cuda())
    for own, other in zip(here, there, strict=True):
        torch.testing.assert_close(other.cpu(), own, rtol=1e-4, atol=1e-4)
