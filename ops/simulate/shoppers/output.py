"""Simulated engagements and items as CSV or Parquet, in the contract's columns; as ops/simulate/output.py."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from models.engagements import ACTIONS
from ops.simulate.ids import numbered_matrix
from ops.simulate.output import NAMES, TIME, WriteColumns, named_column, slices, table_file, text_column
from ops.simulate.shoppers.catalogue import ABSENT, AVAILABLE, Catalogue
from ops.simulate.shoppers.engagements import SimulatedEngagements
from ops.simulate.shoppers.words import CATEGORY_NAMES

ENGAGEMENT_SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("occurred_at", TIME, nullable=False),
        pa.field("user_id", NAMES, nullable=False),
        pa.field("item_id", NAMES, nullable=False),
        pa.field("action", NAMES, nullable=False),
        pa.field("value", pa.float64()),
        pa.field("recommendation_id", pa.string()),
    ]
)
ITEM_SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("text", pa.string()),
        pa.field("category", NAMES),
        pa.field("price", pa.float64()),
        pa.field("available", pa.bool_(), nullable=False),
    ]
)


class EngagementFile:
    """Inside table_file(path, ENGAGEMENT_SCHEMA): writes engagements as they come."""

    def __init__(self, write: WriteColumns, user_ids: tuple[str, ...], item_ids: tuple[str, ...]) -> None:
        self._write = write
        self._names = {"user_id": pa.array(user_ids), "item_id": pa.array(item_ids), "action": pa.array(ACTIONS)}

    def write(self, engagements: SimulatedEngagements) -> None:
        for rows in slices(len(engagements)):
            part = engagements.rows(rows)
            codes: dict[str, Any] = {
                "user_id": part.doings.user,
                "item_id": part.doings.item,
                "action": part.doings.action,
            }
            columns: dict[str, Any] = {name: named_column(code, self._names[name]) for name, code in codes.items()}
            columns["event_id"] = text_column(numbered_matrix(part.id_prefix, part.number))
            columns["occurred_at"] = part.doings.occurred_at
            columns["value"] = pa.array(part.doings.value, mask=np.isnan(part.doings.value))
            columns["recommendation_id"] = pa.array(part.doings.recommendation_id.tolist(), pa.string())
            self._write(columns)


def write_items(path: Path, catalogue: Catalogue, at: int) -> int:
    """Those that are there at `at` (epoch milliseconds); how many. Raises BadSimulation as write_transactions."""
    states = catalogue.states(at)
    items = np.flatnonzero(states != ABSENT)
    with table_file(path, ITEM_SCHEMA) as write:
        write(
            {
                "item_id": pa.array([catalogue.item_ids[item] for item in items.tolist()]),
                "title": pa.array([catalogue.titles[item] for item in items.tolist()]),
                "text": pa.array([catalogue.texts[item] for item in items.tolist()]),
                "category": named_column(catalogue.category[items], pa.array(CATEGORY_NAMES)),
                "price": pa.array(catalogue.price[items]),
                "available": pa.array(states[items] == AVAILABLE),
            }
        )
    return len(items)
