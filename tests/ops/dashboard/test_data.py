"""Predictions, daily figures, drifts, views, models, items, slates, coverage and dead letters over HTTP."""

from datetime import timedelta
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from sqlalchemy import insert, text

from models.catalogue import item_key
from models.policy import PolicyConfig, PolicyNetwork, TrainedPolicy
from storage import tables
from storage.database import Database
from storage.drifts import DriftRecord, record_drifts
from storage.redis_views import SlateView
from storage.registry import ModelRegistry
from storage.training_data import finish_training_run
from storage.views import ANALYST_VIEWS, FIRST_QUERIES
from streams import contract
from tests.deployment import wait_until
from tests.ops.dashboard.conftest import SECONDS, Console, StartConsole
from tests.ops.dashboard.test_live import progress
from tests.storage.rows import NOON, RowMaker

PNG = b"\x89PNG\r\n\x1a\n" + b"image"


@pytest.fixture
def console(start_console: StartConsole, database_url: str) -> Console:
    return start_console(database_url)


@pytest.fixture
def registry(console: Console, database: Database) -> ModelRegistry:
    return ModelRegistry(database, console.context.sources.registry.root)


def item(rows: RowMaker, item_id: str, **values: Any) -> None:
    offset = next(rows.offsets)
    defaults = {
        "item_id": item_id,
        "item_key": item_key(item_id),
        "topic_generation": 3,
        "source_partition": 0,
        "source_offset": offset,
        "recorded_at": NOON,
        "title": f"Title of {item_id}",
        "category": "shoes",
        "price": 9.5,
        "available": True,
        "deleted": False,
    }
    rows.insert(tables.Item, defaults | values)


def test_the_newest_predictions_come_first_with_their_labels(
    console: Console, rows: RowMaker, database: Database
) -> None:
    for number in range(5):
        moment = NOON + timedelta(seconds=number)
        values: dict[str, Any] = {"alert_id": "a"} if number == 3 else {}
        rows.scored(f"e{number}", scored_at=moment, source_offset=number, **values)
    rows.alert("a", ["e3"])
    rows.label("l1", "fraud", alert_id="a")
    rows.label("l2", "legitimate", event_id="e4")
    progress(database, "transactions", next_offset=5)

    found = console.get("/api/predictions", limit=3)["predictions"]

    assert [(each["event_id"], each["label"]) for each in found] == [
        ("e4", "legitimate"),
        ("e3", "fraud"),
        ("e2", None),
    ]
    assert found[0]["amount"] == 12.5
    with database.reading() as connection:
        columns = connection.execute(text("SELECT * FROM v_predictions")).keys()
    assert set(found[0]) == set(columns)


def test_a_prediction_is_found_by_its_event_whatever_its_id_is(console: Console, rows: RowMaker) -> None:
    rows.scored("2026/03 ü?#1")
    assert console.get("/api/predictions/2026%2F03%20%C3%BC%3F%231")["event_id"] == "2026/03 ü?#1"
    assert console.error("/api/predictions/nothing", 404)["code"] == "not_found"


def test_daily_figures_are_those_of_the_views_and_say_of_when_they_are(
    console: Console, rows: RowMaker, database: Database
) -> None:
    rows.scored("e1", flagged=True)
    rows.label("l1", "fraud", event_id="e1")
    rows.scored("e2", occurred_at=NOON - timedelta(days=5))
    rows.slate("r1")
    item(rows, "i1")
    item(rows, "i3")
    item(rows, "i4", available=False)
    for figures in ("detection", "rewards", "coverage"):
        getattr(console.context.aggregates, figures).refresh(NOON)

    found = console.get("/api/detection", days=5)
    assert found["as_of"] == "2026-03-14T12:00:00Z"
    (day,) = found["days"]
    assert (day["day"], day["events"], day["precision"], day["recall"]) == ("2026-03-14", 1, 1.0, 1.0)
    assert len(console.get("/api/detection", days=6)["days"]) == 2
    (reward,) = console.get("/api/rewards")["days"]
    assert (reward["policy"], reward["slates"]) == ("recommender:1", 1)
    assert console.get("/api/coverage") == {
        "as_of": "2026-03-14T12:00:00Z",
        "available": 2,
        "shown": 1,
        "share": 0.5,
        "slates": 1,
    }
    with database.reading() as connection:
        columns = connection.execute(text("SELECT * FROM v_detection_daily")).keys()
    assert set(day) == set(columns)


def test_drifts_are_listed_the_latest_first(console: Console, database: Database) -> None:
    old = NOON - timedelta(days=40)
    record_drifts(
        database,
        [
            DriftRecord("fraud:1", "psi", "amount", NOON, 0.3, 0.2, "w"),
            DriftRecord("fraud:1", "psi", "pace", NOON + timedelta(hours=1), 0.5, 0.2, "w"),
            DriftRecord("fraud:1", "psi", "amount", old, 0.3, 0.2, "w"),
        ],
    )
    assert [drift["subject"] for drift in console.get("/api/drifts")["drifts"]] == ["pace", "amount"]


def test_every_view_comes_with_a_query_that_runs(console: Console, database: Database) -> None:
    views = console.get("/api/views")["views"]
    assert [view["name"] for view in views] == list(ANALYST_VIEWS) == list(FIRST_QUERIES)
    with database.reading() as connection:
        for view in views:
            assert list(connection.execute(text(f"SELECT * FROM {view['name']}")).keys()) == view["columns"]
            connection.execute(text(view["query"]))
            assert view["about"]
            assert not view["about"].startswith("--")


def register(registry: ModelRegistry, **metrics: Any) -> None:
    registry.register("fraud", "gru", b"x", feature_schema=1, metrics=metrics, clock=lambda: NOON, alias=None)


def test_models_have_flat_metrics_and_one_has_its_verdict_runs_and_curves(
    console: Console, registry: ModelRegistry, database: Database
) -> None:
    curves = {"precision_recall": [{"recall": 0.5, "precision": 0.9, "threshold": 0.7}], "source": "training"}
    card = {"kind": "detector", "limits": ["Not tested: the future."]}
    register(registry, average_precision=0.8, trained_until="2026-03-14", curves=curves, card=card, odd=True)
    with database.begin() as connection:
        run = {"run_id": "run-1", "model_name": "fraud", "started_at": NOON, "status": "running", "config": {"seed": 1}}
        connection.execute(insert(tables.TrainingRun), run | {"model_version": 1})
    verdict = {"decision": "promote", "average_precision": {"low": -0.01, "high": 0.02}}
    finish_training_run(database, "run-1", NOON, "succeeded", metrics={"verdict": verdict}, message="promote: better")

    (listed,) = console.get("/api/models")["models"]
    found = console.get("/api/models/fraud/1")

    assert listed["metrics"] == found["metrics"] == {"average_precision": 0.8}
    assert (found["verdict"], found["curves"], found["card"]) == (verdict, curves, card)
    assert [run["message"] for run in found["runs"]] == ["promote: better"]
    assert console.get("/api/runs")["runs"] == found["runs"]
    register(registry)
    assert console.get("/api/models/fraud/2")["card"] is None
    assert console.error("/api/models/fraud/3", 404)["code"] == "not_found"
    assert console.error("/api/models/fraud/99999999999", 422)["code"] == "invalid"


def test_a_model_is_promoted_and_rolled_back(console: Console, registry: ModelRegistry) -> None:
    register(registry)
    register(registry)
    console.context.sources.registry.promote("fraud", 1, "first", lambda: NOON - timedelta(hours=1))

    promoted = console.post("/api/models/fraud/2/promote", {"why": "better"})
    assert (promoted["version"], promoted["alias"], promoted["promoted_why"]) == (2, "champion", "better")
    champion = registry.champion("fraud")
    assert champion is not None
    assert champion.version == 2

    back = console.post("/api/models/fraud/rollback", {"why": "worse after all"})
    assert (back["version"], back["alias"]) == (1, "champion")
    assert console.error("/api/models/fraud/9/promote", 404, {"why": "x"})["code"] == "not_found"
    for body in ({}, {"why": ""}, {"why": "x", "more": 1}):
        assert console.error("/api/models/fraud/1/promote", 422, body)["code"] == "invalid"


def test_items_are_found_by_id_and_title(console: Console, rows: RowMaker) -> None:
    item(rows, "i1", title="Winter boots")
    item(rows, "i2", title="100% wool")
    item(rows, "i3", deleted=True, available=False)

    def found(**query: str) -> list[str]:
        return [each["item_id"] for each in console.get("/api/items", **query)["items"]]

    assert found() == ["i1", "i2"]
    assert found(search="BOOTS") == ["i1"]
    assert found(search="%") == ["i2"]
    assert found(search="i2") == ["i2"]


def test_an_item_has_no_neighbours_without_a_policy_and_those_of_its_vectors_with_one(
    console: Console, rows: RowMaker, registry: ModelRegistry, database: Database
) -> None:
    for item_id in ("i1", "i2", "i3"):
        item(rows, item_id)
    progress(database, "items", topic_generation=3, next_offset=1000)
    alone = console.get("/api/items/i1")
    assert (alone["neighbours"], alone["policy"]) == ([], None)
    policy = TrainedPolicy(PolicyNetwork(PolicyConfig(hidden=8, vector=9)))
    registry.register(
        "recommender",
        "policy",
        policy.to_bytes(),
        feature_schema=1,
        metrics={},
        clock=lambda: NOON,
        alias="champion",
        why="test",
    )

    def with_policy() -> Any:
        found = console.get("/api/items/i1")
        return found if found["neighbours"] else None

    found = wait_until("the vectors are read", with_policy, SECONDS)

    assert found["policy"] == "recommender:1"
    assert {near["item_id"] for near in found["neighbours"]} == {"i2", "i3"}
    assert found["neighbours"][0]["title"].startswith("Title of ")
    assert console.error("/api/items/nothing", 404)["code"] == "not_found"


def test_a_slate_comes_from_redis_with_what_the_catalogue_says(
    start_console: StartConsole, database_url: str, rows: RowMaker, redis_url: str
) -> None:
    console = start_console(database_url, redis=SecretStr(redis_url), redis_prefix="p:")
    item(rows, "i1", image=PNG)
    chosen = [contract.RecommendedItem(name, place, 0.5, 1.5) for place, name in enumerate(("i1", "gone"), 1)]
    slate = contract.Recommendation("r1", "u/1", NOON, "recommender:2", chosen, "e1")
    with redis.Redis.from_url(redis_url) as client:
        client.set("p:recs:u/1", SlateView("u/1", contract.encode(slate)).payload)

    found = console.get("/api/recommendations/u%2F1")

    assert (found["recommendation_id"], found["made_at"]) == ("r1", "2026-03-14T12:00:00Z")
    first, second = found["items"]
    assert (first["title"], first["price"], first["available"]) == ("Title of i1", 9.5, True)
    assert first["image"].startswith("data:image/png;base64,")
    assert (second["title"], second["available"], second["image"]) == (None, None, None)
    assert console.error("/api/recommendations/nobody", 404)["code"] == "not_found"


def test_dead_letters_come_in_pages_and_one_in_full(console: Console, rows: RowMaker) -> None:
    for number in range(5):
        rows.dead_letter(recorded_at=NOON + timedelta(seconds=number // 2), payload=b"%d\xff" % number, payload_bytes=2)
    rows.dead_letter(error_code="too_large", payload=b"x", payload_bytes=10**7)
    rows.dead_letter(replayed_at=NOON)

    paged, cursor = [], None
    while True:
        page = console.get("/api/dead-letters", limit=2, **({"cursor": cursor} if cursor else {}))
        paged += [letter["offset"] for letter in page["dead_letters"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert sorted(paged) == list(range(7))
    assert paged[0] == 4, "the newest first"
    assert page["codes"] == {"invalid_json": 5, "too_large": 1}
    assert [letter["whole"] for letter in console.get("/api/dead-letters", code="too_large")["dead_letters"]] == [False]
    assert len(console.get("/api/dead-letters", replayed="true")["dead_letters"]) == 1
    found = console.get("/api/dead-letters/1/0/3")
    assert (found["key"], found["payload"]) == ("a1", "3�")
    assert console.error("/api/dead-letters/1/0/99", 404)["code"] == "not_found"
    assert console.error("/api/dead-letters/1/0/x", 422)["code"] == "invalid"
