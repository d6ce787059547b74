"""The analysts' views, one SQL file each, and the read-only role that sees nothing else.

The files are written once for both databases; what differs is a placeholder from DIALECT_WORDS.
"""

from collections.abc import Sequence
from importlib import resources
from itertools import takewhile
from string import Template

from sqlalchemy import Connection, text

ANALYST_VIEWS = (
    "v_predictions",
    "v_alerts",
    "v_detection_daily",
    "v_shadow_daily",
    "v_recommendation_reward",
    "v_models",
)
#: A query of each to begin with, the same on both databases.
FIRST_QUERIES = {
    "v_predictions": "SELECT event_id, account_id, amount, currency, score, flagged, label\nFROM v_predictions\n"
    "WHERE event_id = 'the id of an event'",
    "v_alerts": "SELECT alert_id, account_id, severity, score, amount_at_risk, occurred_at\nFROM v_alerts\n"
    "WHERE status = 'open'\nORDER BY scored_at DESC\nLIMIT 50",
    "v_detection_daily": "SELECT day, model, events, alerts, labelled, precision, recall, alert_budget_used\n"
    "FROM v_detection_daily\nORDER BY day DESC, model\nLIMIT 30",
    "v_shadow_daily": "SELECT day, shadow, champion, events, shadow_flagged, champion_flagged, both_flagged\n"
    "FROM v_shadow_daily\nORDER BY day DESC, shadow\nLIMIT 30",
    "v_recommendation_reward": "SELECT day, policy, slates, seen, reward_per_slate, reward_low, reward_high\n"
    "FROM v_recommendation_reward\nORDER BY day DESC, policy\nLIMIT 30",
    "v_models": "SELECT model, alias, created_at, promoted_at, promoted_why\nFROM v_models\n"
    "ORDER BY created_at DESC\nLIMIT 30",
}
#: Who did what is not for every analyst: an administrator grants this one by itself (docs/sql.md).
AUDIT_VIEW = "v_audit"
VIEW_NAMES = ("event_labels", "slate_answers", *ANALYST_VIEWS, AUDIT_VIEW)
READER_ROLE = "headgate_reader"

#: Half of a 95 % interval of a ratio of sums over users; null for a single user.
MARGIN = (
    "CASE WHEN users > 1 THEN "
    "1.96 * sqrt(CASE WHEN residual > 0.0 THEN residual ELSE 0.0 END * users / (users - 1.0)) / slates END"
)
#: Where an item is in a slate r. PostgreSQL expects far too few of all pairs of slates and items, as it multiplies the
#: parts of the key, and would then look for each one's answers on each day; LIMIT has it look for the item instead.
_OF_SLATE = (
    "i.day = r.day AND i.topic_generation = r.topic_generation\n"
    "    AND i.source_partition = r.source_partition AND i.source_offset = r.source_offset AND i.item_id = {item}"
)
_LOOKED_UP = f"CROSS JOIN LATERAL (SELECT position, item_id FROM recommendation_items i WHERE {_OF_SLATE} LIMIT 1) AS i"
_JOINED = f"JOIN recommendation_items i\n    ON {_OF_SLATE}"

DIALECT_WORDS = {
    "postgresql": {
        "engaged_item": _LOOKED_UP.format(item="e.item_id"),
        "rewarded_item": _LOOKED_UP.format(item="f.item_id"),
        "each_event_id": "jsonb_array_elements_text(a.event_ids) AS each_event(value)",
        # A function that is called for each alert would take twice as long.
        "an_event_id_begins_with_search": "jsonb_path_exists(a.event_ids, '$[*] ? (@ starts with $search)', "
        "jsonb_build_object('search', CAST(:search AS text)))",
        "occurred_on": "(p.occurred_at AT TIME ZONE 'UTC')::date",
        "alerts_per_day": "models.metrics ->> 'alerts_per_day'",
        "figures": "m.metrics - 'curves'",
        "margin": MARGIN,
        "made_on": "(r.made_at AT TIME ZONE 'UTC')::date",
        "a_day_ago": "CURRENT_TIMESTAMP - INTERVAL '1 day'",
    },
    "sqlite": {
        "engaged_item": _JOINED.format(item="e.item_id"),
        "rewarded_item": _JOINED.format(item="f.item_id"),
        "each_event_id": "json_each(a.event_ids) AS each_event",
        "an_event_id_begins_with_search": "EXISTS (SELECT 1 FROM json_each(a.event_ids) AS each_event "
        "WHERE substr(each_event.value, 1, length(:search)) = :search)",
        "occurred_on": "date(p.occurred_at)",
        "alerts_per_day": "json_extract(models.metrics, '$.alerts_per_day')",
        "figures": "json_remove(m.metrics, '$.curves')",
        "margin": MARGIN,
        "made_on": "date(r.made_at)",
        "a_day_ago": "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 day')",
    },
}


def about_view(name: str) -> str:
    """What a view is, in words: the comment at its head."""
    lines = takewhile(lambda line: line.startswith("--"), _source(name).splitlines())
    return " ".join(line.removeprefix("--").strip() for line in lines)


def view_sql(name: str, dialect: str) -> str:
    return Template(_source(name)).substitute(DIALECT_WORDS[dialect], joined_by="", engaged_by="")


def labels_joined_by(dialect: str) -> str:
    """A query as the view event_labels is, of the labels joined by the moment :joined_by alone."""
    source = _source("event_labels")
    _, _, query = source.partition(" VIEW event_labels AS\n")
    in_time = " AND coalesce(f.joined_at, f.recorded_at) <= :joined_by"
    return Template(query).substitute(DIALECT_WORDS[dialect], joined_by=in_time).strip()


def slate_answers_until(dialect: str, engaged_by: str) -> str:
    """A query as the view slate_answers is, of the engagements (e) that a condition allows and of the rewards joined by
    the moment :joined_by alone."""
    source = _source("slate_answers")
    _, _, query = source.partition(" VIEW slate_answers AS\n")
    in_time = " AND coalesce(f.joined_at, f.recorded_at) <= :joined_by"
    words = DIALECT_WORDS[dialect]
    return Template(query).substitute(words, joined_by=in_time, engaged_by=f" AND {engaged_by}").strip()


def create_views(connection: Connection, names: Sequence[str]) -> None:
    """In this order: a view may use those before it."""
    for name in names:
        connection.exec_driver_sql(view_sql(name, connection.dialect.name))


def replace_views(connection: Connection, names: Sequence[str]) -> None:
    """On PostgreSQL, in this order: the views as they are now, with the same columns; who may read them still may."""
    for name in names:
        connection.exec_driver_sql(view_sql(name, "postgresql").replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1))


def let_analysts_read(connection: Connection, names: Sequence[str]) -> None:
    """On PostgreSQL: the role that may read these views, made if need be and if we may create roles; else a notice."""
    if connection.dialect.name != "postgresql":
        return
    grants = " ".join(f"GRANT SELECT ON {name} TO {READER_ROLE};" for name in names)
    connection.execute(
        text(f"""
        DO $$ BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{READER_ROLE}') THEN
                CREATE ROLE {READER_ROLE} NOLOGIN;
            END IF;
            {grants}
        EXCEPTION
            WHEN insufficient_privilege THEN
                RAISE NOTICE 'not allowed to create role {READER_ROLE}: ask an administrator (docs/sql.md)';
            WHEN duplicate_object OR unique_violation THEN
                {grants}
        END $$""")
    )


def _source(name: str) -> str:
    return resources.files(__package__).joinpath(f"{name}.sql").read_text()
