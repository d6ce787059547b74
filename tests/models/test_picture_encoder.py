"""The picture encoder: what looks alike lies close before any training, it can be taught to tell patterns apart, and it
says the same of a picture wherever that is."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.catalogue import Catalogue
from models.item_content import Item
from models.item_table import ItemTable
from models.picture_encoder import PictureEncoder
from models.pictures import THUMBNAIL_BYTES, as_pixels, thumbnail
from models.policy import PolicyConfig, PolicyNetwork
from ops.bench.cold_start.drawing import COLOURS, PATTERNS, draw
from tests.pictures import plain, png

RED, GREEN = (thumbnail(png(plain(colour))) for colour in ("red", "green"))


def awake(seed: int = 0) -> PictureEncoder:
    torch.manual_seed(seed)
    encoder = PictureEncoder(7)
    torch.nn.init.normal_(encoder.last.weight, std=0.1)
    return encoder.eval()


def noise(count: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, THUMBNAIL_BYTES), np.uint8))


@torch.inference_mode()
def test_before_training_pictures_that_look_alike_lie_closer_than_others() -> None:
    rng = np.random.default_rng(0)
    looks = [(pattern, colour) for pattern in range(len(PATTERNS)) for colour in range(len(COLOURS))]
    first, again = (torch.from_numpy(as_pixels([thumbnail(draw(rng, *look)) for look in looks])) for _ in range(2))
    torch.manual_seed(0)
    encoder = PictureEncoder(33)
    vectors, others = encoder(first), encoder(again)
    distance = torch.cdist(vectors, others)
    assert distance.diagonal().mean() < 0.8 * distance.mean()
    assert 0.3 < float(vectors.norm(dim=1).mean()) < 3.0


@torch.inference_mode()
@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_a_pictures_vector_does_not_depend_on_the_batch_that_it_is_in(size: int) -> None:
    encoder, pictures = awake(), noise(100)
    parts = torch.cat([encoder(pictures[start : start + size]) for start in range(0, 100, size)])
    torch.testing.assert_close(parts, encoder(pictures), rtol=0, atol=1e-5)
    assert torch.equal(encoder(pictures), encoder(pictures))


@torch.inference_mode()
def test_no_pictures_have_no_vectors() -> None:
    assert awake()(torch.zeros(0, THUMBNAIL_BYTES, dtype=torch.uint8)).shape == (0, 7)


def test_some_hundred_pictures_teach_it_to_tell_checks_from_dots_of_any_colour() -> None:
    rng = np.random.default_rng(0)
    dotted = rng.integers(0, 2, 300)
    kinds = [PATTERNS.index(name) for name in ("checks", "dots")]
    looks = [(kinds[one], int(rng.integers(len(COLOURS)))) for one in dotted.tolist()]
    pictures, truth = torch.from_numpy(as_pixels([thumbnail(draw(rng, *look)) for look in looks])), torch.tensor(dotted)
    torch.manual_seed(0)
    encoder = PictureEncoder(2)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=5e-3)
    for _ in range(12):
        for rows in torch.arange(200).split(20):
            loss = functional.cross_entropy(encoder(pictures[rows]), truth[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.inference_mode():
        assert (encoder(pictures[200:]).argmax(1) == truth[200:]).float().mean() > 0.85


class Looking(PictureEncoder):
    """Counts the pictures that it looks at."""

    looked_at = 0

    def forward(self, pixels_PX: Tensor) -> Tensor:
        self.looked_at += len(pixels_PX)
        return super().forward(pixels_PX)


def network() -> tuple[PolicyNetwork, Looking]:
    torch.manual_seed(0)
    found, looking = PolicyNetwork(PolicyConfig()), Looking(33)
    torch.nn.init.normal_(looking.last.weight, std=0.1)
    found.from_picture = looking
    return found.eval(), looking


@torch.inference_mode()
def test_items_that_look_alike_share_the_pictures_part_of_their_vectors_and_its_cost() -> None:
    found, looking = network()
    catalogue = Catalogue()
    catalogue.put([Item("a", thumbnail=RED), Item("b"), Item("c", thumbnail=GREEN), Item("d", thumbnail=RED)])
    vectors = found.item_vectors(catalogue.table())
    assert looking.looked_at == 2
    without = found.item_vectors(ItemTable(catalogue.table().content_AF, catalogue.table().bucket_A))
    said = vectors - without
    assert not said[1].any()
    assert torch.equal(said[0], said[3])
    assert not torch.allclose(said[0], said[2])


@torch.inference_mode()
def test_an_items_vector_is_the_same_among_all_items_and_alone() -> None:
    found, _ = network()
    catalogue = Catalogue()
    catalogue.put([Item(str(row), thumbnail=(RED, GREEN, None)[row % 3], title=f"word {row}") for row in range(20)])
    together = found.item_vectors(catalogue.table())
    for row in range(20):
        alone = found.item_vectors(catalogue.table(np.array([row])))
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_what_is_not_known_of_any_item_adds_nothing() -> None:
    torch.manual_seed(0)
    table = ItemTable(torch.randn(3, 98), torch.tensor([1, 2, -1]))
    blind = PolicyNetwork(PolicyConfig(text_buckets=0, pictures=False))
    seeing = PolicyNetwork(PolicyConfig())
    seeing.load_state_dict(blind.state_dict(), strict=False)
    assert torch.equal(seeing.item_vectors(table), blind.item_vectors(table))
