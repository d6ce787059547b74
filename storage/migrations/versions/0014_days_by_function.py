"""Days of the hot tables are made by a function with the owner's rights, so that workers need no right to the schema.

It adds a partition of days to a hot table, and can do nothing else. Who may call it besides the owner is granted with
the roles (storage/database_roles.py).
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

#: Returns the days' partition, or null where the default partition holds too many rows of these days. Attached, not
#: created as a partition: that would lock the whole table. Names are qualified: no caller's path is looked at.
MAKE_DAYS = """
CREATE FUNCTION {schema}.headgate_make_days(hot_table text, first_day date, end_day date, most_moved integer)
RETURNS text LANGUAGE plpgsql STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' AS $function$
DECLARE
    made CONSTANT text := hot_table || '_' || to_char(first_day, 'YYYYMMDD');
    inside CONSTANT text := format('day >= %L AND day < %L', first_day, end_day);
    waiting bigint;
BEGIN
    IF hot_table NOT IN ('transactions', 'predictions', 'shadow_predictions', 'duplicates', 'engagements',
                         'recommendations', 'recommendation_items') THEN
        RAISE EXCEPTION '% has no days', hot_table USING ERRCODE = 'invalid_parameter_value';
    END IF;
    EXECUTE format('LOCK TABLE {schema}.%I IN ACCESS EXCLUSIVE MODE', hot_table || '_default');
    EXECUTE format('SELECT count(*) FROM (SELECT 1 FROM {schema}.%I WHERE %s LIMIT %s) AS there',
                   hot_table || '_default', inside, most_moved + 1) INTO waiting;
    IF waiting > most_moved THEN
        RETURN NULL;
    END IF;
    EXECUTE format('CREATE TABLE {schema}.%I (LIKE {schema}.%I INCLUDING ALL)', made, hot_table);
    IF waiting > 0 THEN
        EXECUTE format('WITH moved AS (DELETE FROM {schema}.%I WHERE %s RETURNING *) '
                       'INSERT INTO {schema}.%I TABLE moved', hot_table || '_default', inside, made);
    END IF;
    EXECUTE format('ALTER TABLE {schema}.%I ATTACH PARTITION {schema}.%I FOR VALUES FROM (%L) TO (%L)',
                   hot_table, made, first_day, end_day);
    RETURN made;
END $function$
"""


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return
    schema = connection.exec_driver_sql("SELECT quote_ident(current_schema())").scalar()
    connection.exec_driver_sql(MAKE_DAYS.replace("{schema}", str(schema)).replace("%", "%%"))
    connection.exec_driver_sql(
        f"REVOKE ALL ON FUNCTION {schema}.headgate_make_days(text, date, date, integer) FROM PUBLIC"
    )
