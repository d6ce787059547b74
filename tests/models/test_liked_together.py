"""Pictures of what the same users like are drawn together."""

import math

import pytest
import torch
from torch import Tensor

from models.engagements import CLICK, IMPRESSION, PURCHASE, SKIP
from models.experience import Experience
from models.item_table import ItemTable
from models.liked_together import TEMPERATURE, LookLearner, likings, together_loss
from models.picture_encoder import PictureEncoder
from models.pictures import SIDE

RED, BLUE = (200, 40, 40), (40, 60, 200)


def engaged(items: list[list[int]], actions: list[list[int]]) -> Experience:
    """Sequences without slates, all equally long."""
    shape = (len(items), 0)
    return Experience(
        item_BT=torch.tensor(items),
        action_BT=torch.tensor(actions),
        value_BT=torch.full((len(items), len(items[0])), torch.nan),
        gap_BT=torch.full((len(items), len(items[0])), 5.0),
        predicted_BT=torch.zeros(len(items), len(items[0]), dtype=torch.bool),
        seen_BD=torch.empty(shape, dtype=torch.int64),
        candidates_BDC=torch.empty((*shape, 0), dtype=torch.int64),
        log_weights_BDC=torch.empty((*shape, 0)),
        picks_BDK=torch.empty((*shape, 0), dtype=torch.int64),
        reward_BDK=torch.empty((*shape, 0)),
        continues_B=torch.ones(len(items), dtype=torch.bool),
    )


def plain(colour: tuple[int, int, int], shade: float) -> Tensor:
    return (torch.tensor(colour) * shade).to(torch.uint8).repeat(SIDE * SIDE)


def test_clicks_likes_and_purchases_of_items_that_count_are_likings() -> None:
    batch = engaged([[4, 2, 9, -1], [7, 7, 2, 4]], [[CLICK, IMPRESSION, CLICK, CLICK], [PURCHASE, SKIP, SKIP, -1]])
    assert likings(batch, torch.tensor([2, 4, 7])).tolist() == [[0, 1, 0], [0, 0, 1]]


def test_the_loss_is_the_cross_entropy_of_the_other_item_that_was_liked_among_what_was_not() -> None:
    looks = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 1.0]])
    liked = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    found = together_loss(looks, liked)
    wanted = math.exp(1 / TEMPERATURE)  # liked once, as is item 2; item 3 was liked by nobody
    assert found is not None
    assert float(found) == pytest.approx(-math.log(wanted / (wanted + 1 + 0.5)))


def test_without_two_likings_of_one_user_there_is_nothing_to_learn() -> None:
    assert together_loss(torch.eye(3), torch.eye(3)) is None


def test_what_the_same_users_like_comes_to_look_alike() -> None:
    torch.manual_seed(0)
    encoder = PictureEncoder(9)
    pixels = torch.stack([plain(colour, shade) for colour in (RED, BLUE) for shade in (0.7, 0.8, 0.9, 1.0)])
    learner = LookLearner(encoder, ItemTable(torch.zeros(8, 1), torch.zeros(8), None, torch.arange(8), pixels))
    batch = engaged([[0, 1, 2, 3], [4, 5, 6, 7]], [[CLICK] * 4] * 2)

    def likeness() -> Tensor:
        looks = torch.nn.functional.normalize(encoder(pixels)[:, :-1].detach(), dim=1)
        return looks @ looks.T

    before = likeness()
    for _ in range(30):
        learner.learn(batch, 3e-3)
    after = likeness()
    assert after[:4, 4:].mean() < before[:4, 4:].mean() - 0.5
    assert after[:4, :4].mean() > 0.8


def test_items_without_pictures_teach_nothing() -> None:
    torch.manual_seed(0)
    encoder = PictureEncoder(9)
    items = ItemTable(torch.zeros(8, 1), torch.zeros(8), None, torch.full((8,), -1), plain(RED, 1.0)[None])
    before = encoder.last.weight.detach().clone()
    LookLearner(encoder, items).learn(engaged([[0, 1, 2, 3]], [[CLICK] * 4]), 1e-3)
    assert torch.equal(encoder.last.weight, before)
