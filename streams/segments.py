"""How a snapshot is cut into segments, and when what changed is merged into a new base. Pure decisions on changes of
state (models/residents.py); streams/snapshots.py writes and reads them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from models.residents import Changes, Packed
from storage.snapshots import SegmentRef
from streams.state_codec import ActiveFrom, fitting

#: In the names of segments.
BASE, DELTA = "base", "delta"
#: Segments of what changed since the base: a restore opens each one, and the manifest lists them.
MOST_DELTAS = 100


def of_activation(changes: Changes, own: ActiveFrom, wanted: ActiveFrom | None, units: Mapping[str, int]) -> Changes:
    """With the networks' states that are of an activation."""
    entities = {kind: fitting(packed, own, wanted, units[kind]) for kind, packed in changes.entities.items()}
    return Changes(entities, changes.gone, changes.whole)


def outgrown(segments: Sequence[SegmentRef]) -> bool:
    """Whether what changed since the base takes more than the base, or too many segments."""
    base = [segment.size_bytes for segment in segments if BASE in segment.name]
    larger = sum(segment.size_bytes for segment in segments) > 2 * sum(base)
    return larger or len(segments) - len(base) > MOST_DELTAS


def parts_of(changes: Changes, entities: int) -> Iterator[Changes]:
    """The same changes with so many entities of a kind at most in each part. What left is in the first, which is
    applied first."""
    count = max(1, *(-(-len(packed) // entities) for packed in changes.entities.values()))
    for number in range(count):
        part = {
            kind: packed.part(number * entities, (number + 1) * entities) for kind, packed in changes.entities.items()
        }
        yield Changes(part) if number else Changes(part, changes.gone, changes.whole)


def in_pieces(layers: Iterable[Changes], entities: int) -> Iterator[Changes]:
    """The same entities, each once, in about so many at a time."""
    waiting: list[Changes] = []
    for layer in layers:
        waiting.append(layer)
        if sum(map(len, waiting)) >= entities:
            yield together(waiting)
            waiting = []
    if waiting:
        yield together(waiting)


def together(layers: list[Changes]) -> Changes:
    """Layers without entities in common as one."""
    kinds = layers[0].entities
    entities = {kind: Packed.concatenate([layer.entities[kind] for layer in layers]) for kind in kinds}
    whole = next((layer.whole for layer in layers if layer.whole), {})
    return Changes(entities, whole=whole)
