"""Rows of column values: dataclasses whose fields are numpy arrays or lists, all of one length."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt


def taken(columns: Any, rows: npt.NDArray[Any], arrays: Collection[str]) -> dict[str, Any]:
    """The fields with the given rows (an index array), in its order; `arrays` names those that are arrays."""
    picked = rows.tolist()
    return {
        field.name: column[rows] if field.name in arrays else [column[row] for row in picked]
        for field in fields(columns)
        for column in [getattr(columns, field.name)]
    }


def concatenated(kind: type[Any], parts: Sequence[Any], arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of all parts, one after the other; arrays: name -> type of those that are arrays."""
    found: dict[str, Any] = {}
    for field in fields(kind):
        values = [getattr(part, field.name) for part in parts]
        if field.name in arrays:
            found[field.name] = np.concatenate(values) if values else np.zeros(0, arrays[field.name])
        else:
            found[field.name] = list(chain.from_iterable(values))
    return found
