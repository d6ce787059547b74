"""Cursors of lists: where a page ended, as text that means nothing to who passes it back."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ops.dashboard.errors import ApiError


def cursor_of(place: Sequence[Any]) -> str:
    parts = [{"at": part.isoformat()} if isinstance(part, datetime) else part for part in place]
    return urlsafe_b64encode(json.dumps(parts, separators=(",", ":")).encode()).decode().rstrip("=")


def place_in(cursor: str, kinds: Sequence[type]) -> list[Any]:
    """The place that a cursor says, of values of these types. Raises ApiError for anything else."""
    try:
        parts = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        place = [datetime.fromisoformat(part["at"]) if isinstance(part, dict) else part for part in parts]
    except (ValueError, TypeError, KeyError):
        place = []
    if [type(part) for part in place] != list(kinds) or not all(map(_can_be_stored, place)):
        raise ApiError(422, "invalid", "query.cursor: is not one of this list's; begin without a cursor")
    return place


def _can_be_stored(part: Any) -> bool:
    """Moments have a time zone, and whole numbers fit into 64 bits."""
    if isinstance(part, datetime):
        return part.tzinfo is not None
    return not isinstance(part, int) or abs(part) < 2**63
