"""Packed states of accounts and users that were not touched for long: memory's second tier, in SQL.

A row is the state as of its entity's last event and never changes; an entity that comes back and leaves again has
another row, and so has a version of Headgate that packs states in another way. Whoever asks says where in the log it
stands, so that a worker that folds the log again finds the states of that moment. What the bytes mean is the business
of those who write them.
"""

import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, text

#: Entities looked at in one statement of `remove_superseded`.
PIECE_ENTITIES = 20_000

# COPY cannot pass over rows that exist. Through a temporary table it can, and took as long (74 ms for 8,192 rows of 300
# bytes, as against 80); COPY straight into the table took 45.
_WRITE_ARRAYS = """
    INSERT INTO cold_states (topic_generation, source_partition, entity_id, as_of, state, layout)
    SELECT %b::smallint, %b::integer, given.entity_id, given.as_of, given.state, %b::text
    FROM unnest(%b::text[], %b::bigint[], %b::bytea[]) AS given (entity_id, as_of, state)
    ON CONFLICT DO NOTHING"""
_WRITE_ONE = """
    INSERT INTO cold_states (topic_generation, source_partition, layout, entity_id, as_of, state)
    VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"""
_READ_ARRAY = """
    SELECT newest.entity_id, newest.as_of, newest.state
    FROM unnest(%b::text[]) AS wanted (entity_id) CROSS JOIN LATERAL (
        SELECT entity_id, as_of, state FROM cold_states AS cold
        WHERE topic_generation = %b::smallint AND source_partition = %b::integer
            AND cold.entity_id = wanted.entity_id AND layout = %b::text AND as_of <= %b::bigint
        ORDER BY as_of DESC LIMIT 1) AS newest"""
_READ_JSON = """
    SELECT cold.entity_id, cold.as_of, cold.state
    FROM json_each(?) AS wanted CROSS JOIN cold_states AS cold
    WHERE cold.topic_generation = ?2 AND cold.source_partition = ?3 AND cold.entity_id = wanted.value
        AND cold.layout = ?4 AND cold.as_of = (
            SELECT max(as_of) FROM cold_states AS earlier
            WHERE earlier.topic_generation = ?2 AND earlier.source_partition = ?3
                AND earlier.entity_id = wanted.value AND earlier.layout = ?4 AND earlier.as_of <= ?5)"""


def write_cold_states(
    connection: Connection,
    generation: int,
    partition: int,
    ids: Sequence[str],
    as_of: npt.NDArray[np.int64],
    states: Sequence[bytes],
    layout: str,
) -> None:
    """k states of one partition in the caller's transaction. as_of[k]: the offset after the entity's last event;
    layout: names how they are packed. A state that is there already, as of the same event, is left as it is."""
    if not len(ids) == len(as_of) == len(states):
        raise ValueError(f"{len(ids)} ids, {len(as_of)} offsets and {len(states)} states are not one each")
    offsets = as_of.tolist()
    if connection.dialect.name == "postgresql":
        values = (generation, partition, layout, list(ids), offsets, list(states))
        connection.exec_driver_sql(_WRITE_ARRAYS, values)
    elif offsets:
        rows = zip(ids, offsets, states, strict=True)
        connection.exec_driver_sql(_WRITE_ONE, [(generation, partition, layout, *row) for row in rows])


def read_cold_states(
    connection: Connection, generation: int, partition: int, ids: Sequence[str], position: int, layout: str
) -> list[tuple[str, int, bytes]]:
    """(entity_id, as_of, state) of those of the distinct ids that have a state of this layout as of `position` (the
    next offset) or before it: the newest of each. In one statement, in no order."""
    where = generation, partition, layout, position
    if connection.dialect.name == "postgresql":
        rows = connection.exec_driver_sql(_READ_ARRAY, (list(ids), *where))
    else:
        rows = connection.exec_driver_sql(_READ_JSON, (json.dumps(list(ids)), *where))
    return [(row[0], row[1], bytes(row[2])) for row in rows]


def has_cold_states(connection: Connection, generation: int, partition: int) -> bool:
    found = connection.execute(
        text(
            "SELECT 1 FROM cold_states WHERE topic_generation = :generation AND source_partition = :partition LIMIT 1"
        ),
        {"generation": generation, "partition": partition},
    )
    return found.first() is not None


def remove_superseded(
    connection: Connection,
    generation: int,
    partition: int,
    position: int,
    *,
    after: str = "",
    entities: int = PIECE_ENTITIES,
) -> tuple[int, str | None]:
    """Removes states that nobody asks for who stands at `position` or later: those with a newer one as of `position` or
    before it. Looks at `entities` rows behind the id `after` and returns how many it removed and the id to go on after,
    None at the end."""
    key = {"generation": generation, "partition": partition, "after": after, "position": position}
    last = connection.execute(
        text(
            "SELECT entity_id FROM cold_states WHERE topic_generation = :generation "
            "AND source_partition = :partition AND entity_id > :after ORDER BY entity_id LIMIT 1 OFFSET :rows"
        ),
        {**key, "rows": entities - 1},
    ).scalar()
    until = "" if last is None else "AND entity_id <= :last "
    removed = connection.execute(
        text(
            "DELETE FROM cold_states WHERE topic_generation = :generation AND source_partition = :partition "
            f"AND entity_id > :after {until}AND EXISTS (SELECT 1 FROM cold_states AS newer "
            "WHERE newer.topic_generation = :generation AND newer.source_partition = :partition "
            "AND newer.entity_id = cold_states.entity_id AND newer.layout = cold_states.layout "
            "AND newer.as_of > cold_states.as_of "
            "AND newer.as_of <= :position)"
        ),
        key if last is None else {**key, "last": last},
    ).rowcount
    return removed, last
