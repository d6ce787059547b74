"""The best items of a catalogue for each query, exactly, for catalogues of any size.

Items are looked at in tiles that fit a cache. Of a tile only the best score of each block of neighbouring items is
kept; the blocks that hold the best k items are among the k blocks with the highest best scores, so only those are
looked at again. Cost: one product with every item, whatever k is (figures in docs/policy.md).
"""

import torch
from torch import Tensor

BLOCK = 128
TILE = 64 * BLOCK
#: Queries that share a tile; more of them would need gigabytes for the blocks that are looked at again.
QUERIES_AT_ONCE = 64


@torch.inference_mode()
def best_items(query_NV: Tensor, vectors_AV: Tensor, available_A: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The rows int64[n, k] of the k best available items of each query, best first, and their scores float[n, k]; k is
    count, or less where fewer are available. Rows without a finite score come last with -inf: all of a query that is
    not finite. Vectors of available items are finite."""
    count = min(count, int(available_A.sum()))
    small = len(vectors_AV) <= max(TILE, 4 * count * BLOCK)
    best = _by_all if small else _by_blocks
    sound_N = query_NV.isfinite().all(1)
    finite_NV = query_NV.where(sound_N[:, None], 0.0)
    found = [
        best(finite_NV[start : start + QUERIES_AT_ONCE], vectors_AV, available_A, count)
        for start in range(0, max(len(query_NV), 1), QUERIES_AT_ONCE)
    ]
    rows_NK, scores_NK = (torch.cat(parts) for parts in zip(*found, strict=True))
    return rows_NK, scores_NK.masked_fill(~sound_N[:, None], -torch.inf)


def _by_all(query_NV: Tensor, vectors_AV: Tensor, available_A: Tensor, count: int) -> tuple[Tensor, Tensor]:
    found = torch.topk((query_NV @ vectors_AV.T).masked_fill(~available_A, -torch.inf), count, dim=1)
    return found.indices, found.values


def _by_blocks(query_NV: Tensor, vectors_AV: Tensor, available_A: Tensor, count: int) -> tuple[Tensor, Tensor]:
    best = [
        _block_maxima(query_NV, vectors_AV[start : start + TILE], available_A[start : start + TILE])
        for start in range(0, len(vectors_AV), TILE)
    ]
    blocks_NK = torch.topk(torch.cat(best, 1), count, dim=1).indices
    rows_NR = (blocks_NK[:, :, None] * BLOCK + torch.arange(BLOCK, device=query_NV.device)).flatten(1)
    inside = rows_NR < len(vectors_AV)
    rows_NR = rows_NR.clamp(max=len(vectors_AV) - 1)
    scores_NR = torch.einsum("nv,nrv->nr", query_NV, vectors_AV[rows_NR])
    scores_NR = scores_NR.masked_fill(~(inside & available_A[rows_NR]), -torch.inf)
    found = torch.topk(scores_NR, count, dim=1)
    return torch.gather(rows_NR, 1, found.indices), found.values


def _block_maxima(query_NV: Tensor, tile_TV: Tensor, available_T: Tensor) -> Tensor:
    # Added by the product itself, for a mask of all scores would be a pass of its own over them.
    never_T = torch.zeros(len(tile_TV), dtype=tile_TV.dtype, device=tile_TV.device).masked_fill(
        ~available_T, -torch.inf
    )
    scores_NT = torch.addmm(never_T, query_NV, tile_TV.T)
    missing = -scores_NT.shape[1] % BLOCK
    if missing:
        scores_NT = torch.nn.functional.pad(scores_NT, (0, missing), value=-torch.inf)
    return scores_NT.view(len(scores_NT), -1, BLOCK).amax(2)
