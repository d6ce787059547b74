"""Files of shoppers: CSV and Parquet hold the contract's columns."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from ops.simulate import output
from ops.simulate.output import table_file
from ops.simulate.shoppers.assortment import live_catalogue
from ops.simulate.shoppers.catalogue import ABSENT, AVAILABLE
from ops.simulate.shoppers.output import ENGAGEMENT_SCHEMA, EngagementFile, write_items
from ops.simulate.shoppers.traffic import Traffic
from tests.ops.simulate.shoppers.test_shop_traffic import SMALL, START, everybody_has_one

formats = pytest.mark.parametrize("suffix", [".csv", ".parquet"])


def read(path: Path) -> dict[str, list[Any]]:
    """By the suffix, as a stranger would."""
    if path.suffix == ".parquet":
        table = pa.parquet.read_table(path)
    else:
        convert = pa.csv.ConvertOptions(
            column_types={"recommendation_id": pa.string()}, strings_can_be_null=True, null_values=[""]
        )
        table = pa.csv.read_csv(path, convert_options=convert)
    return {name: table[name].to_pylist() for name in table.column_names}


@formats
def test_engagements_come_back_as_they_were(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "ROWS_A_SLICE", 150)
    traffic = Traffic(SMALL, live_catalogue(150, 0, "1", START, SMALL.pace), everybody_has_one)
    batches = [traffic.until(START + seconds * 1000).engagements for seconds in (10, 20)]
    with table_file(tmp_path / f"e{suffix}", ENGAGEMENT_SCHEMA) as write:
        file = EngagementFile(write, traffic.people.user_ids, traffic.catalogue.item_ids)
        for batch in batches:
            file.write(batch)

    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    expected: dict[str, list[Any]] = {name: [] for name in batches[0].columns()}
    for batch in batches:
        columns = batch.columns()
        columns["occurred_at"] = [epoch + timedelta(milliseconds=each) for each in columns["occurred_at"].tolist()]
        columns["value"] = [None if value != value else value for value in columns["value"].tolist()]
        for name, values in columns.items():
            expected[name] += values
    assert len(expected["value"]) > 500
    assert read(tmp_path / f"e{suffix}") == expected


@formats
def test_items_are_those_that_are_there(tmp_path: Path, suffix: str) -> None:
    catalogue, at = live_catalogue(150, 0, "1", START, SMALL.pace), START + 60_000
    count = write_items(tmp_path / f"i{suffix}", catalogue, at)

    states = catalogue.states(at).tolist()
    there = [item for item, state in enumerate(states) if state != ABSENT]
    assert count == len(there) > 150
    assert read(tmp_path / f"i{suffix}") == {
        "item_id": [catalogue.item_ids[item] for item in there],
        "title": [catalogue.titles[item] for item in there],
        "text": [catalogue.texts[item] for item in there],
        "category": [catalogue.categories[item] for item in there],
        "price": [catalogue.price[item] for item in there],
        "available": [states[item] == AVAILABLE for item in there],
    }
