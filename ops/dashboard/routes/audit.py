"""Who did what, for operators."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query

from ops.dashboard.answers import AuditEntries, AuditEntry
from ops.dashboard.context import InContext
from ops.dashboard.cursors import cursor_of, place_in
from ops.dashboard.security import OPERATOR
from storage.audit import audit_entries

router = APIRouter(prefix="/api/audit", tags=["audit"])

#: No NUL character, which SQL cannot be asked for.
Words = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")]


@router.get("", dependencies=[OPERATOR])
def entries(
    context: InContext,
    who: Words = None,
    action: Words = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
) -> AuditEntries:
    """A page of what people did and Headgate changed by itself, the latest first."""
    before = None if cursor is None else int(place_in(cursor, (int,))[0])
    with context.reading() as connection:
        found = audit_entries(connection, limit=limit + 1, who=who, action=action, before=before)
    shown = found[:limit]
    return AuditEntries(
        entries=[AuditEntry(id=number, **asdict(entry)) for number, entry in shown],
        next=cursor_of([shown[-1][0]]) if len(found) > limit else None,
    )
