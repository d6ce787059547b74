"""Where a text is found of all that a deployment keeps: columns of SQL, keys and values of Redis, files of a folder,
records of the topics that it writes, the pages of a worker."""

import re
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.deployment import Deployment, WorkerProcess

#: Topics that Headgate writes.
PUBLISHED = ("alerts", "recommendations", "predictions", "dead-letters", "model-updates")


def in_sql(deployment: Deployment, needle: str) -> list[str]:
    """ "table.column" of all that hold it, whatever their type: bytes are searched as bytes, the rest as text."""
    columns = deployment.sql(
        "SELECT table_name, column_name, data_type FROM information_schema.columns NATURAL JOIN "
        "information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
    )
    assert len(columns) > 100, "else these are not all tables"
    found = []
    for table, column, kind in columns:
        held = f"position(convert_to(:needle, 'UTF8') IN \"{column}\") > 0"
        if kind != "bytea":
            held = f'position(:needle IN "{column}"::text) > 0'
        if deployment.value(f'SELECT count(*) FROM "{table}" WHERE {held}', needle=needle):
            found.append(f"{table}.{column}")
    return sorted(found)


def in_redis(deployment: Deployment, needle: str) -> list[str]:
    """Keys that hold it in their name or value, of the whole database."""
    found = []
    with deployment.redis() as client:
        for key in client.scan_iter("*"):
            if needle.encode() in key or needle in repr(_value(client, key)):
                found.append(key.decode())
    return sorted(found)


def in_folder(folder: Path, needle: str) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(str(path.relative_to(folder)) for path in files if needle.encode() in path.read_bytes())


def in_topics(deployment: Deployment, needle: str, topics: Iterable[str] = PUBLISHED) -> list[str]:
    return [topic for topic in topics if any(needle in shown for shown in _records(deployment, topic))]


def in_pages(worker: WorkerProcess, needle: str) -> list[str]:
    """Of the worker's metrics and health."""
    address = re.search(r"http://[\d.:]+", worker.output())
    assert address is not None
    found = []
    for page in ("metrics", "health"):
        with urllib.request.urlopen(f"{address[0]}/{page}", timeout=5) as answer:
            if needle in answer.read().decode():
                found.append(page)
    return found


def everywhere(deployment: Deployment, needle: str) -> list[str]:
    """Of what an erasure is to leave nothing in: SQL, Redis, snapshots."""
    return [
        *(f"sql {place}" for place in in_sql(deployment, needle)),
        *(f"redis {place}" for place in in_redis(deployment, needle)),
        *(f"snapshot {place}" for place in in_folder(deployment.folder / "state-snapshots", needle)),
    ]


def _value(client: Any, key: bytes) -> Any:
    read = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"stream": client.xrange,
        b"list": lambda name: client.lrange(name, 0, -1),
        b"set": client.smembers,
        b"zset": lambda name: client.zrange(name, 0, -1),
    }
    return read[client.type(key)](key)


def _records(deployment: Deployment, topic: str) -> Iterator[str]:
    for record in deployment.records(topic):
        yield repr((record.key, record.value, record.headers))
