"""Packed entities as bytes and back: the same to the last bit, or an error."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.residents import Changes, Packed
from models.scoring import Scorer
from streams.segments import in_pieces, parts_of, together
from streams.state_codec import ActiveFrom, BadState, changes_of, cold_states, packed_of, segment_arrays
from tests.models.logs import log_of, untrained

ROW = np.dtype([("time", "<i8"), ("ring", "<f2", (3,)), ("flag", "u1")])
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
ACTIVE = ActiveFrom("fraud:3", 17)


def packed_entities(ids: list[str], units: int, seed: int) -> Packed:
    draw = np.random.default_rng(seed)
    rows = np.frombuffer(bytearray(draw.bytes(len(ids) * ROW.itemsize)), ROW)
    current = draw.random(len(ids)) < 0.7
    hidden = draw.normal(size=(len(ids), units)).astype(np.float32)
    hidden[~current] = 0
    return Packed(ids, draw.integers(0, 99, len(ids)), rows, hidden, current if units else np.zeros(len(ids), bool))


entities = st.builds(
    packed_entities, st.lists(NAMES, max_size=8, unique=True), st.sampled_from([0, 5]), st.integers(0, 999)
)


def assert_same(one: Packed, other: Packed) -> None:
    assert list(one.ids) == list(other.ids)
    assert one.rows.tobytes() == other.rows.tobytes()
    for name in ("touched", "hidden", "current"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@given(entities, entities, st.lists(NAMES, max_size=4, unique=True))
def test_a_segment_is_read_as_it_was_written(accounts: Packed, merchants: Packed, gone: list[str]) -> None:
    whole = {"earned": np.array([1.5, 2.5])}
    changes = Changes({"a": accounts, "m": merchants}, {"a": gone, "m": []}, whole)
    found, active = changes_of(segment_arrays(changes, ACTIVE), {"a": ROW, "m": ROW})
    assert active == ACTIVE
    assert_same(found.entities["a"], accounts)
    assert_same(found.entities["m"], merchants)
    assert {kind: list(ids) for kind, ids in found.gone.items()} == {"a": gone, "m": []}
    assert {name: array.tolist() for name, array in found.whole.items()} == {"earned": [1.5, 2.5]}


@given(entities)
def test_cold_states_are_read_as_they_were_written(packed: Packed) -> None:
    states, units = cold_states(packed, ACTIVE), packed.hidden.shape[1]
    assert_same(packed_of(packed.ids, packed.touched, states, ROW, ACTIVE, units), packed)


@given(entities, st.sampled_from([ActiveFrom("fraud:3", 18), ActiveFrom("fraud:2", 17), None]))
def test_the_state_of_another_activation_is_left_out(packed: Packed, wanted: ActiveFrom | None) -> None:
    for states in (cold_states(packed, ACTIVE), cold_states(packed, None)):
        found = packed_of(packed.ids, packed.touched, states, ROW, wanted, 5)
        assert_same(found, packed.without_hidden(5))


@pytest.mark.parametrize("units", [0, 4, 6])
def test_the_state_of_a_network_of_another_size_is_left_out(units: int) -> None:
    packed = packed_entities(["a", "b", "c", "d"], 5, 1)
    found = packed_of(packed.ids, packed.touched, cold_states(packed, ACTIVE), ROW, ACTIVE, units)
    assert_same(found, packed.without_hidden(units))


@pytest.mark.parametrize("state", [b"", b"\1", b"\1\0\0\0\xff", b"\0\0\0\0"])
def test_a_state_that_is_none_is_an_error(state: bytes) -> None:
    with pytest.raises(BadState, match="the state of 'a'"):
        packed_of(["a"], np.zeros(1, np.int64), [state], ROW, ACTIVE, 0)


@pytest.mark.parametrize("name", ["a.ids", "a.rows", "a.touched", "a.gone.ends", "active.model", "a.hidden"])
def test_a_segment_that_lacks_something_is_an_error(name: str) -> None:
    changes = Changes({"a": packed_entities(["x", "y"], 5, 1)}, {"a": ["z"]})
    arrays = segment_arrays(changes, ACTIVE)
    with pytest.raises(BadState):
        changes_of({key: array for key, array in arrays.items() if key != name}, {"a": ROW})
    if name in ("a.rows", "a.touched", "a.hidden"):
        with pytest.raises(BadState):
            changes_of(arrays | {name: arrays[name][:1]}, {"a": ROW})


@given(st.lists(st.integers(-3, 9) | st.integers(-(2**63), 2**63 - 1), max_size=6))
def test_ends_of_texts_that_go_to_and_fro_are_an_error(ends: list[int]) -> None:
    """Else a small file would be as many copies of its texts as it has ends."""
    arrays = segment_arrays(Changes({"a": packed_entities([], 0, 1)}, {"a": ["xy", "z"]}), ACTIVE)
    forged = arrays | {"a.gone.ends": np.array(ends, np.int64)}
    if sorted(ends) == ends and ends and ends[-1] == 3 and ends[0] >= 0:
        assert "".join(changes_of(forged, {"a": ROW})[0].gone["a"]) == "xyz"
    else:
        with pytest.raises(BadState):
            changes_of(forged, {"a": ROW})


def test_a_state_that_claims_more_than_any_has_is_an_error() -> None:
    claims = (2**32 - 1).to_bytes(4, "little") + bytes(16)
    with pytest.raises(BadState, match="the state of 'a' claims 4,294,967,295 bytes"):
        packed_of(["a"], np.zeros(1, np.int64), [claims], ROW, ACTIVE, 0)


def test_rows_of_another_type_are_an_error() -> None:
    arrays = segment_arrays(Changes({"a": packed_entities(["x", "y"], 5, 1)}), ACTIVE)
    with pytest.raises(BadState):
        changes_of(arrays, {"a": np.dtype([("time", "<i8")])})


def both_kinds(changes: list[Changes]) -> dict[str, list[Any]]:
    """kind -> (id, row), sorted."""
    return {
        kind: sorted(pair for one in changes for pair in zip(one.entities[kind].ids, rows(one, kind), strict=True))
        for kind in ("accounts", "merchants")
    }


def rows(changes: Changes, kind: str) -> list[bytes]:
    found = changes.entities[kind].rows
    raw: list[bytes] = found.view(f"V{found.dtype.itemsize}").tolist()
    return raw


@settings(max_examples=20)
@given(st.integers(1, 7), st.integers(1, 7))
def test_changes_in_parts_and_in_pieces_hold_the_same(part: int, piece: int) -> None:
    scorer = Scorer(untrained())
    scorer.score(log_of([{"account": place % 9, "merchant": place % 4, "number": place} for place in range(25)]))
    changes = scorer.kept.take_changes(0)
    changes = Changes(changes.entities, {"accounts": ["gone"], "merchants": []}, {"w": np.ones(1)})
    parts = list(parts_of(changes, part))
    assert all(len(packed) <= part for one in parts for packed in one.entities.values())
    assert [bool(one.gone) for one in parts] == [True] + [False] * (len(parts) - 1)
    pieces = list(in_pieces(parts, piece))
    assert both_kinds(pieces) == both_kinds(parts) == both_kinds([changes])
    assert sum(bool(one.whole) for one in pieces) == 1
    assert len(together(parts)) == len(changes)
