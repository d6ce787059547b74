"""Retrieval: the same items as looking at all of them, for catalogues of any size, whatever the query is."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models import retrieval
from models.retrieval import BLOCK, QUERIES_AT_ONCE, TILE, best_items

#: Small enough that a few hundred items make many tiles, each of several blocks.
SMALL_BLOCK, SMALL_TILE = 4, 16


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "BLOCK", SMALL_BLOCK)
    monkeypatch.setattr(retrieval, "TILE", SMALL_TILE)


def drawn(*shape: int, seed: int, whole: bool = False) -> Tensor:
    """Small whole numbers have products without rounding, and many ties."""
    draw = np.random.default_rng(seed)
    values = draw.integers(-2, 3, shape) if whole else draw.normal(size=shape)
    return torch.from_numpy(values).float()


def assert_best(query: Tensor, vectors: Tensor, available: Tensor, count: int, tolerance: float = 1e-5) -> None:
    """Against a sort of all scores. Which of equal items are found is left open, their scores are not."""
    rows, scores = best_items(query, vectors, available, count)
    expected = (query @ vectors.T)[:, available].sort(1, descending=True).values[:, :count]
    assert rows.shape == scores.shape == expected.shape
    torch.testing.assert_close(scores, expected, rtol=0, atol=tolerance)
    own = (query[:, None] * vectors[rows]).sum(2)
    torch.testing.assert_close(scores, own, rtol=0, atol=tolerance)
    assert available[rows].all()
    assert all(len(set(row)) == len(row) for row in rows.tolist())


@settings(max_examples=150)
@given(
    items=st.integers(1, 400),
    count=st.integers(1, 30),
    users=st.integers(1, 5),
    share=st.sampled_from([0.02, 0.5, 1.0]),
    whole=st.booleans(),
    seed=st.integers(0, 1_000),
)
@pytest.mark.usefixtures("small_blocks")
def test_the_best_items_are_those_of_a_sort_of_all_scores(
    items: int, count: int, users: int, share: float, whole: bool, seed: int
) -> None:
    available = torch.from_numpy(np.random.default_rng(seed).random(items) < share)
    vectors, query = (drawn(number, 5, seed=seed + 7 * number, whole=whole) for number in (items, users))
    assert_best(query, vectors, available, count, tolerance=0.0 if whole else 1e-5)


@pytest.mark.parametrize("items", [TILE, TILE + 1, TILE + BLOCK - 1, TILE + BLOCK, 2 * TILE, 2 * TILE + BLOCK + 1])
def test_sizes_around_the_borders_of_tiles_and_blocks_lose_no_item(items: int) -> None:
    vectors, query = drawn(items, 3, seed=items), drawn(3, 3, seed=1)
    available = torch.ones(items, dtype=torch.bool)
    assert_best(query, vectors, available, 9)
    for place in (0, BLOCK - 1, BLOCK, TILE - 1, min(TILE, items - 1), items - 1):
        best = vectors.clone()
        best[place] = 100 * query[0]
        assert_best(query, best, available, 9, tolerance=1e-3)
        assert best_items(query, best, available, 9)[0][0, 0] == place


@pytest.mark.usefixtures("small_blocks")
def test_an_unavailable_item_is_never_found_however_good_it_is() -> None:
    vectors, query = drawn(200, 4, seed=0), drawn(2, 4, seed=1)
    vectors[::2] *= 1_000
    available = torch.arange(200) % 2 == 1
    assert_best(query, vectors, available, 7)


@pytest.mark.parametrize("items", [3, 300])
@pytest.mark.usefixtures("small_blocks")
def test_fewer_items_are_found_where_fewer_are_available(items: int) -> None:
    available = torch.zeros(items, dtype=torch.bool)
    vectors, query = drawn(items, 4, seed=0), drawn(2, 4, seed=1)
    assert best_items(query, vectors, available, 5)[0].shape == (2, 0)
    available[[0, items - 1]] = True
    assert_best(query, vectors, available, 5)


def test_an_empty_catalogue_and_no_queries_are_answered() -> None:
    nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.bool)
    assert best_items(drawn(2, 4, seed=0), *nothing, 5)[0].shape == (2, 0)
    assert best_items(torch.zeros(0, 4), drawn(9, 4, seed=0), torch.ones(9, dtype=torch.bool), 5)[0].shape == (0, 5)


@pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("items", [10, 300])
@pytest.mark.usefixtures("small_blocks")
def test_a_query_that_is_no_number_finds_nothing_and_leaves_the_others_alone(odd: float, items: int) -> None:
    vectors, query = drawn(items, 4, seed=0), drawn(3, 4, seed=1)
    available = torch.ones(items, dtype=torch.bool)
    sound = best_items(query, vectors, available, 6)
    query[1, 2] = odd
    rows, scores = best_items(query, vectors, available, 6)
    assert (scores[1] == -torch.inf).all()
    for other in (0, 2):
        assert torch.equal(rows[other], sound[0][other])
        assert torch.equal(scores[other], sound[1][other])


@pytest.mark.usefixtures("small_blocks")
def test_what_a_query_finds_does_not_depend_on_the_others() -> None:
    vectors, query = drawn(300, 4, seed=0, whole=True), drawn(2 * QUERIES_AT_ONCE + 3, 4, seed=1, whole=True)
    available = torch.ones(300, dtype=torch.bool)
    together = best_items(query, vectors, available, 6)[1]
    for place in (0, QUERIES_AT_ONCE - 1, QUERIES_AT_ONCE, len(query) - 1):
        assert torch.equal(best_items(query[place : place + 1], vectors, available, 6)[1][0], together[place])
