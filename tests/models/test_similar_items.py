"""Similar items: the highest cosines of a sort of all of them, never the item itself nor what is sold out."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models import similar_items
from models.catalogue import Catalogue
from models.guard_rails import SlateRules
from models.item_content import Item
from models.recommending import Recommender
from models.similar_items import nearest_items
from tests.models.engagement_logs import engagements, items, shop, untrained_policy


def reading(vectors: Tensor) -> Callable[[slice], Tensor]:
    return lambda rows: vectors[rows]


@given(st.integers(1, 80), st.integers(1, 90), st.integers(0, 1_000))
def test_the_nearest_items_are_those_of_a_sort_of_all_cosines(count: int, wanted: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    vectors, available = draw.normal(size=(count, 4)), draw.random(count) < 0.7
    row = int(draw.integers(count))
    cosine = vectors @ vectors[row] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[row])
    expected = [other for other in np.argsort(-cosine).tolist() if available[other] and other != row][:wanted]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similar_items, "TILE", 16)
        rows, cosines = nearest_items(reading(torch.from_numpy(vectors)), row, torch.from_numpy(available), wanted)
    assert rows.tolist() == expected
    np.testing.assert_allclose(cosines, cosine[expected], atol=1e-12)


def test_items_without_a_direction_are_near_to_nothing() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [torch.nan, 1.0]])
    everything = torch.ones(4, dtype=torch.bool)
    assert nearest_items(reading(vectors), 0, everything, 9)[0].tolist() == [2]
    assert nearest_items(reading(vectors), 1, everything, 9)[0].tolist() == []


@pytest.mark.parametrize("with_policy", [True, False])
def test_of_items_with_the_same_words_the_recommender_says_that_they_are_alike(with_policy: bool) -> None:
    catalogue = Catalogue()
    catalogue.put([*items(30), Item("one", title="red wool socks"), Item("other", title="red wool socks")])
    found = Recommender(catalogue, SlateRules())
    if with_policy:
        policy = untrained_policy()
        with torch.no_grad():
            policy.network.from_id.weight.zero_()
        found.use_policy(found.prepare(policy), "recommender:1")
    (name, cosine), *others = found.similar("one", 5)
    assert (name, len(others)) == ("other", 4)
    assert cosine == pytest.approx(1.0, abs=1e-5)
    catalogue.delete(["other"])
    assert "other" not in dict(found.similar("one", 30))
    assert found.similar("nobody", 5) == []


def test_how_popular_items_are_with_a_policy_does_not_make_them_alike() -> None:
    policy = untrained_policy()
    found = Recommender(shop(20), SlateRules())
    found.use_policy(found.prepare(policy), "recommender:1")
    before = found.similar("item-3", 19)
    with torch.no_grad():
        policy.network.from_content.bias[-1] += 100.0
    found.use_policy(found.prepare(policy), "recommender:2")
    assert [name for name, _ in found.similar("item-3", 19)] == [name for name, _ in before]


def test_an_item_that_came_since_the_last_batch_has_its_like_too() -> None:
    found = Recommender(shop(3), SlateRules())
    found.use_policy(found.prepare(untrained_policy()), "recommender:1")
    found.fold(engagements([{}]))
    found.catalogue.put(items(90))
    assert len(found.similar("item-80", 5)) == 5
