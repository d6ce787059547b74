"""Thumbnails as vectors: a small convolutional network, trained before and with the policy that reads them.

Of what it finds in a picture the mean and the most count, not where it is: far fewer pictures are enough to learn from
than where each place has weights of its own (docs/policy.md has the figures). It knows nothing of files or items.
Shape suffixes: P pictures, X bytes of a thumbnail, C channels, H and W places, V numbers of a vector.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.pictures import SIDE

#: Of the two layers, each of which halves the picture.
CHANNELS, FEATURES = 16, 32
#: Pixels of the side of what a layer looks at.
LOOK = 4


class PictureEncoder(nn.Module):
    """Before training it is a random look at pictures, of about the weight of an item's other content: what looks alike
    lies close, which is where learning what somebody likes to see starts from."""

    def __init__(self, vector: int) -> None:
        super().__init__()
        self.edges = nn.Conv2d(3, CHANNELS, LOOK, stride=2, padding=1)
        self.patterns = nn.Conv2d(CHANNELS, FEATURES, LOOK, stride=2, padding=1)
        self.last = nn.Linear(2 * FEATURES, vector)
        nn.init.normal_(self.last.weight, std=1 / math.sqrt(2 * FEATURES * vector))
        nn.init.zeros_(self.last.bias)

    def forward(self, pixels_PX: Tensor) -> Tensor:
        """[P, V] of uint8 thumbnails as models/pictures.py makes them."""
        # Bytes lie channel by channel within a pixel: torch's channels_last, without copying.
        picture_PCHW = pixels_PX.view(-1, SIDE, SIDE, 3).permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1
        found_PCHW = torch.relu(self.patterns(torch.relu(self.edges(picture_PCHW))))
        found_PF = torch.cat([found_PCHW.mean((2, 3)), found_PCHW.amax((2, 3))], dim=1)
        return self.last(functional.layer_norm(found_PF, found_PF.shape[1:]))  # type: ignore[no-any-return]
