"""Items as the tensors that their vectors are made of. What is None nothing is known of, for any item.

Shape suffixes: A items, F content columns, M parts of a text, P different pictures, X bytes of a thumbnail.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ItemTable:
    """content_AF float32; bucket_A int64: -1 for items whose id says nothing; parts_AM int16: of their texts, 0 for
    none; picture_A int64: rows of the thumbnails pixels_PX uint8, -1 for none."""

    content_AF: Tensor
    bucket_A: Tensor
    parts_AM: Tensor | None = None
    picture_A: Tensor | None = None
    pixels_PX: Tensor | None = None

    def __len__(self) -> int:
        return len(self.content_AF)

    def to(self, device: torch.device) -> "ItemTable":
        optional = self.parts_AM, self.picture_A, self.pixels_PX
        moved = (None if column is None else column.to(device) for column in optional)
        return ItemTable(self.content_AF.to(device), self.bucket_A.to(device), *moved)

    def take(self, rows_A: Tensor) -> "ItemTable":
        """Some of the items; the thumbnails stay."""
        parts_AM, picture_A = self.parts_AM, self.picture_A
        return ItemTable(
            self.content_AF[rows_A],
            self.bucket_A[rows_A],
            None if parts_AM is None else parts_AM[rows_A],
            None if picture_A is None else picture_A[rows_A],
            self.pixels_PX,
        )

    def without_ids(self, rows_A: Tensor) -> "ItemTable":
        """rows_A bool: whose ids are to say nothing."""
        return replace(self, bucket_A=self.bucket_A.masked_fill(rows_A, -1))
