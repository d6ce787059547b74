"""`headgate db`: the SQL schema, and who may do what with it."""

import typer

from ops.terminal import Json, fail, load_settings, print_json

database = typer.Typer(help="The SQL schema and its roles.", no_args_is_help=True)


@database.command("upgrade")
def database_upgrade() -> None:
    """Bring the schema to this version, with partitions for the days ahead."""
    from ops.clock import utc_now
    from storage.database import open_database, upgrade
    from storage.day_partitions import ensure_days

    url = load_settings().database.get_secret_value()
    revision = upgrade(url)
    opened = open_database(url)
    try:
        made = ensure_days(opened, utc_now().date())
    finally:
        opened.engine.dispose()
    print(f"schema is at {revision}" + (f", {len(made)} partitions were made for the days ahead" if made else ""))


@database.command("roles")
def database_roles(as_json: Json = False) -> None:
    """Make or renew the roles of PostgreSQL with what each may do: headgate_migrator, headgate_writer, headgate_reader.

    To be run by an administrator, before or after the first `headgate db upgrade`, and again at any time. The roles
    have no password and cannot log in: grant them to the users that you make.
    """
    from storage.database import open_database
    from storage.database_roles import ROLES, make_roles

    opened = open_database(load_settings().database.get_secret_value())
    if opened.dialect != "postgresql":
        fail(f"the {opened.where} has no roles; whoever may read the file reads everything")
    try:
        with opened.begin() as connection:
            make_roles(connection)
    finally:
        opened.engine.dispose()
    if as_json:
        print_json({"roles": ROLES})
        return
    for role, purpose in ROLES.items():
        print(f"{role:18} {purpose}")
    print("Grant them to users, as CREATE ROLE headgate_worker LOGIN IN ROLE headgate_writer; and \\password in psql.")
