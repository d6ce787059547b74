"""Which items are like an item: those whose vectors point the same way.

Vectors come in tiles, so that a catalogue of any size needs no second copy of itself. It knows nothing of policies.
"""

from collections.abc import Callable

import torch
from torch import Tensor

TILE = 65_536


@torch.inference_mode()
def nearest_items(
    vectors_of: Callable[[slice], Tensor], row: int, available_A: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """The rows int64[k] of the k available items with the highest cosine to the item in a row, best first, and their
    cosines float[k]; never that item itself, and none without a direction. vectors_of: [n, V] of a range of rows."""
    target_V = vectors_of(slice(row, row + 1))[0]
    rows, cosines = [], []
    for start in range(0, len(available_A), TILE):
        part = slice(start, min(start + TILE, len(available_A)))
        tile_TV = vectors_of(part)
        cosine_T = (tile_TV @ target_V) / (tile_TV.norm(dim=1) * target_V.norm())
        cosine_T = cosine_T.masked_fill(~(available_A[part] & cosine_T.isfinite()), -torch.inf)
        if part.start <= row < part.stop:
            cosine_T[row - part.start] = -torch.inf
        best = torch.topk(cosine_T, min(count, len(cosine_T)))
        rows.append(best.indices + start)
        cosines.append(best.values)
    if not rows:
        return torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    all_rows, all_cosines = torch.cat(rows), torch.cat(cosines)
    found = torch.topk(all_cosines, min(count, len(all_cosines)))
    real = found.values > -torch.inf
    return all_rows[found.indices[real]], found.values[real]
