"""The recommender's part of a flow: from settings to the processors of `engagements` and `items`, and the threads that
keep its policy and its catalogue up to date. Composition only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from models.catalogue import Catalogue
from models.guard_rails import SlateRules
from models.recommending import Recommender
from ops.clock import utc_now
from ops.compose_state import StatePart, slots_to_reserve
from ops.settings import Settings
from storage.database import Database
from storage.registry import ModelRegistry
from streams.catalogue_watch import LOOK_SECONDS, CatalogueWatch
from streams.engagement_source import EngagementSource
from streams.flow import Background, owned_by
from streams.health import FlowMetrics
from streams.items import ItemsProcessor
from streams.ownership import Ownership
from streams.patience import Wait
from streams.periodic import Periodic
from streams.policy_watch import PolicyWatch
from streams.recommendation import RecommendationProcessor
from streams.recommendation_metrics import RecommendationMetrics
from streams.records import DecodeLimits
from streams.rows import RowEncoder
from streams.swap import ASK_SECONDS, Tell


@dataclass(frozen=True, slots=True)
class RecommendationPart:
    """warnings: what health should say although the flow works."""

    engagements: RecommendationProcessor
    items: ItemsProcessor
    background: Sequence[Background]
    warnings: Callable[[], list[str]]


def build_recommendations(
    settings: Settings,
    database: Database,
    registry: ModelRegistry,
    ownership: Ownership,
    metrics: FlowMetrics,
    limits: DecodeLimits,
    tell: Tell,
    wait: Wait,
    device: str,
    state: StatePart,
) -> RecommendationPart:
    """With the catalogue and the policy that are there now. Raises DatabaseUnavailable."""
    rules, rows = slate_rules(settings), RowEncoder(database.dialect)
    recommender = Recommender(Catalogue(), rules, device=device, capacity=slots_to_reserve(settings))
    counters = RecommendationMetrics(metrics.registry)
    catalogue = CatalogueWatch(database, f"{settings.topic_prefix}items", counters)
    catalogue.load(recommender.catalogue)
    policies = PolicyWatch(registry, recommender, counters, tell, clock=utc_now)
    policies.look()
    topic = f"{settings.topic_prefix}engagements"
    engagements = RecommendationProcessor(
        recommender,
        EngagementSource(database, wait),
        rows,
        limits,
        owned_by(ownership, topic),
        policies,
        catalogue,
        metrics,
        counters,
        state.keeping(topic, recommender.kept, recommender.drop_partition),
        rules.floor,
    )
    background = [
        Periodic("policy-watch", ASK_SECONDS, policies.look, metrics),
        Periodic("catalogue-watch", LOOK_SECONDS, catalogue.look, metrics),
    ]
    items = ItemsProcessor(rows, limits, metrics)

    def warnings() -> list[str]:
        return [catalogue.warning] if catalogue.warning else []

    return RecommendationPart(engagements, items, background, warnings)


def slate_rules(settings: Settings) -> SlateRules:
    return SlateRules(
        size=settings.slate_size,
        floor=settings.exploration,
        holdout=settings.random_holdout,
        slate_max_age=round(settings.slate_max_age_seconds * 1000),
        most_impressions=settings.most_impressions,
        most_of_category=settings.most_of_category,
    )
