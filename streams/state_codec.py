"""Packed entities (models/residents.py) as bytes: arrays of a snapshot's segment, and one compressed state of the cold
tier each. Pure; what cannot be read is an error, never misread.

The state of a network goes with the activation that it is of: the model and the offset from which it was active on the
partition. Under another one it is left out, and the network builds it from the entity's ring.
"""

import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow

from models.hashing import stable_hash
from models.residents import Changes, Kept, Packed

Arrays = Mapping[str, npt.NDArray[Any]]
_UNITS = struct.Struct("<H")
_FROM_OFFSET = struct.Struct("<q")
_SIZE = struct.Struct("<I")
#: In a state of the cold tier: units of a network (16 bits count them), bytes of a model's name and version.
MOST_UNITS, LONGEST_NAME = 65_535, 1_000
#: Takes 3 us for a state of 1.8 KB; zlib takes 40.
_codec = pyarrow.Codec("lz4_raw")


class BadState(ValueError):
    """Bytes that are no packed state of this layout."""


@dataclass(frozen=True, slots=True)
class ActiveFrom:
    """The model in use (name:version) and the offset from which it was active on a partition."""

    model: str
    offset: int


def fitting(packed: Packed, own: ActiveFrom | None, wanted: ActiveFrom | None, units: int) -> Packed:
    """With the networks' states where they are of the activation that is wanted, else without them."""
    if own is not None and own == wanted and packed.hidden.shape[1] == units:
        return packed
    return packed.without_hidden(units)


# Segments of a snapshot.


def segment_arrays(changes: Changes, active: ActiveFrom) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {
        "active.model": _bytes(active.model.encode()),
        "active.offset": np.array([active.offset], np.int64),
    }
    for kind, packed in changes.entities.items():
        arrays |= _texts(f"{kind}.ids", packed.ids) | _texts(f"{kind}.gone", changes.gone.get(kind, ()))
        arrays[f"{kind}.touched"] = packed.touched
        arrays[f"{kind}.rows"] = _rows_as_bytes(packed.rows)
        arrays[f"{kind}.hidden"] = packed.hidden
        arrays[f"{kind}.current"] = packed.current
    return arrays | {f"whole.{name}": array for name, array in changes.whole.items()}


def changes_of(arrays: Arrays, kinds: Mapping[str, "np.dtype[Any]"]) -> tuple[Changes, ActiveFrom]:
    """kinds: the type of each kind's rows. Raises BadState."""
    try:
        entities = {kind: _packed(arrays, kind, row_type) for kind, row_type in kinds.items()}
        gone = {kind: _texts_of(arrays, f"{kind}.gone") for kind in kinds}
        whole = {name.removeprefix("whole."): array for name, array in arrays.items() if name.startswith("whole.")}
        active = ActiveFrom(arrays["active.model"].tobytes().decode(), int(arrays["active.offset"][0]))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise BadState(f"no packed entities: {error!r}") from error
    return Changes(entities, gone, whole), active


def without_entities(arrays: Arrays, kind: str, names: Collection[str]) -> Arrays | None:
    """A segment's arrays without some entities of a kind; None where it has none of them. Raises BadState."""
    try:
        ids, gone = _texts_of(arrays, f"{kind}.ids"), _texts_of(arrays, f"{kind}.gone")
        if not {*names}.intersection([*ids, *gone]):
            return None
        kept = [place for place, entity in enumerate(ids) if entity not in names]
        rest = {f"{kind}.{name}": arrays[f"{kind}.{name}"][kept] for name in ("touched", "rows", "hidden", "current")}
    except (KeyError, IndexError, ValueError) as error:
        raise BadState(f"no packed entities: {error!r}") from error
    texts = _texts(f"{kind}.ids", [ids[place] for place in kept])
    return {**arrays, **rest, **texts, **_texts(f"{kind}.gone", [entity for entity in gone if entity not in names])}


def _packed(arrays: Arrays, kind: str, row_type: "np.dtype[Any]") -> Packed:
    ids, touched, rows = _texts_of(arrays, f"{kind}.ids"), arrays[f"{kind}.touched"], arrays[f"{kind}.rows"]
    hidden, current = arrays[f"{kind}.hidden"], arrays[f"{kind}.current"]
    if not len(ids) == len(touched) == len(rows) == len(hidden) == len(current):
        raise ValueError(f"{kind}: {len(ids)} ids, {len(rows)} rows and {len(hidden)} states are not one each")
    return Packed(ids, touched, np.ascontiguousarray(rows).reshape(-1).view(row_type), hidden, current)


def _texts(name: str, texts: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    encoded = [text.encode() for text in texts]
    return {name: _bytes(b"".join(encoded)), f"{name}.ends": np.cumsum([0, *map(len, encoded)])[1:].astype(np.int64)}


def _texts_of(arrays: Arrays, name: str) -> list[str]:
    data, ends = arrays[name].tobytes(), arrays[f"{name}.ends"].tolist()
    if sorted(ends) != ends or (ends[-1] if ends else 0) != len(data) or (ends and ends[0] < 0):
        raise ValueError(f"{name}: the texts do not follow each other")  # nor may they be more than there is
    return [data[begin:end].decode() for begin, end in zip([0, *ends], ends, strict=False)]


def _bytes(data: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)


def _rows_as_bytes(rows: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return rows.view(np.uint8).reshape(len(rows), rows.dtype.itemsize)


# States of the cold tier: the row, and where the network's state is current its units (uint16), the state, the offset
# from which the model was active (int64) and the model's name; little-endian. Of that the size, and one block of LZ4.


def cold_layout(kept: Kept) -> str:
    """What names the layout in each row: short, for there are many."""
    return f"{stable_hash(kept.layout):016x}"


def cold_states(packed: Packed, active: ActiveFrom | None) -> list[bytes]:
    """One for each entity; active: of the networks' states, None where they are of no use."""
    rows = packed.rows.view(f"V{packed.rows.dtype.itemsize}").tolist()
    units = packed.hidden.shape[1]
    if active is not None and units and packed.current.any():
        hidden = np.ascontiguousarray(packed.hidden).reshape(-1).view(f"V{4 * units}").tolist()
        before, after = _UNITS.pack(units), _FROM_OFFSET.pack(active.offset) + active.model.encode()
        rows = [
            row + before + state + after if current else row
            for row, state, current in zip(rows, hidden, packed.current.tolist(), strict=True)
        ]
    return [_SIZE.pack(len(row)) + _codec.compress(row, asbytes=True) for row in rows]


def packed_of(
    ids: Sequence[str],
    touched: npt.NDArray[np.int64],
    states: Sequence[bytes],
    row_type: "np.dtype[Any]",
    wanted: ActiveFrom | None,
    units: int,
) -> Packed:
    """What `cold_states` made, with the networks' states that are of the wanted activation. units: of the network in
    use. Raises BadState."""
    hidden, current = np.zeros((len(ids), units), np.float32), np.zeros(len(ids), np.bool_)
    size, rows = row_type.itemsize, []
    most = size + _UNITS.size + 4 * MOST_UNITS + _FROM_OFFSET.size + LONGEST_NAME
    fits = None if wanted is None or not units else _FROM_OFFSET.pack(wanted.offset) + wanted.model.encode()
    after = size + _UNITS.size + 4 * units
    for place, state in enumerate(states):
        try:
            (claimed,) = _SIZE.unpack_from(state)
            if claimed > most:
                raise BadState(f"the state of {ids[place]!r} claims {claimed:,} bytes, none has more than {most:,}")
            data = _codec.decompress(state[_SIZE.size :], claimed, asbytes=True)
        except (OSError, struct.error) as error:
            raise BadState(f"the state of {ids[place]!r} is damaged: {error}") from error
        if len(data) < size:
            raise BadState(f"the state of {ids[place]!r} has {len(data)} bytes, a row takes {size}")
        rows.append(data[:size])
        if fits is not None and len(data) > after and data[after:] == fits:
            hidden[place] = np.frombuffer(data, "<f4", units, size + _UNITS.size)
            current[place] = True
    return Packed(ids, touched, np.frombuffer(bytearray(b"".join(rows)), row_type), hidden, current)
