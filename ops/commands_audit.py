"""`headgate audit`: who did what."""

from dataclasses import asdict
from typing import Annotated

import typer

from ops.terminal import Json, load_settings, plain, print_json


def audit(
    limit: Annotated[int, typer.Option(min=1, help="At most this many, the latest first.")] = 50,
    who: Annotated[str | None, typer.Option(help="Only by this one, as analyst:alice or cli:root.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this, as model.promote.")] = None,
    as_json: Json = False,
) -> None:
    """Verdicts, promotions, replays and all else that somebody did, with who and when."""
    from storage.audit import audit_entries
    from storage.database import open_database

    with open_database(load_settings().database.get_secret_value()).reading() as connection:
        found = audit_entries(connection, limit=limit, who=who, action=action)
    if as_json:
        print_json({"entries": [{"id": number, **asdict(entry)} for number, entry in found]})
        return
    for _, entry in found:
        detail = "  ".join(f"{name}={value!r}" for name, value in entry.detail.items() if value is not None)
        print(plain(f"{entry.at:%Y-%m-%d %H:%M:%S}  {entry.who:20} {entry.action:20} {entry.subject}  {detail}"))
