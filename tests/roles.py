"""Users with the roles of PostgreSQL, for tests: one of each role, with a password, on the database of a test."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text
from sqlalchemy.engine import make_url

from storage.database import Database, open_database
from storage.database_roles import ROLES, make_roles

PASSWORD = "pass-word-of-a-test"


@contextmanager
def roles_of(administrator: str) -> Iterator[dict[str, str]]:
    """Makes the roles in the database of this URL; role -> URL of a user who has it. The users go at the end, the roles
    stay: they are the server's, and other databases may use them."""
    url = make_url(administrator)
    users = {role: f"{role}_{url.database}" for role in ROLES}
    with as_role(administrator) as database:
        with database.begin() as connection:
            make_roles(connection)
            for role, user in users.items():
                connection.execute(text(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}' IN ROLE {role}"))
        try:
            yield {
                role: url.set(username=user, password=PASSWORD).render_as_string(hide_password=False)
                for role, user in users.items()
            }
        finally:
            with database.begin() as connection:
                for user in users.values():
                    connection.execute(text(f"DROP OWNED BY {user}"))
                    connection.execute(text(f"DROP ROLE {user}"))


@contextmanager
def as_role(url: str) -> Iterator[Database]:
    database = open_database(url)
    try:
        yield database
    finally:
        database.engine.dispose()
