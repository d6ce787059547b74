"""Metrics of the recommender: slates, what the guard rails took away, the policy and the catalogue in use.

On the worker's registry, beside those of the flow (health.py); docs/metrics.md lists every metric (a test checks that).
"""

from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge


class RecommendationMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        into = registry
        self._slates = Counter(
            "headgate_slates_total",
            "Slates made, by who chose: the policy, random (the holdout) or popular",
            ["chooser"],
            registry=into,
        )
        self._ruled_out = Counter(
            "headgate_candidates_ruled_out_total",
            "Candidates that a guard rail took away; lifted: slates for which rules were lifted",
            ["rule"],
            registry=into,
        )
        self._failed = Counter(
            "headgate_policy_failures_total", "Users for whom the policy had no answer", registry=into
        )
        self._unknown = Counter(
            "headgate_unknown_items_total", "Engagements with items that the catalogue does not know", registry=into
        )
        self._users = Gauge("headgate_resident_users", "Users whose state is in memory", registry=into)
        self._items = Gauge("headgate_catalogue_items", "Items in the catalogue in use", ["state"], registry=into)
        self._version = Gauge(
            "headgate_policy_version", "Version of the recommender in use, 0 without one", registry=into
        )
        self._swaps = Counter(
            "headgate_policy_swaps_total", "Policies taken over or refused", ["outcome"], registry=into
        )

    def slates_made(self, policies: Sequence[str], ruled_out: Mapping[str, int]) -> None:
        for policy in policies:
            self._slates.labels("policy" if ":" in policy else policy).inc()
        for rule, count in ruled_out.items():
            if rule == "policy_failed":
                self._failed.inc(count)
            else:
                self._ruled_out.labels(rule).inc(count)

    def answered(self, users: int, unknown_items: int) -> None:
        self._users.set(users)
        self._unknown.inc(unknown_items)

    def catalogue_in_use(self, available: int, unavailable: int) -> None:
        self._items.labels("available").set(available)
        self._items.labels("unavailable").set(unavailable)

    def policy_in_use(self, version: int) -> None:
        self._version.set(version)

    def policy_swapped(self, outcome: str) -> None:
        """outcome: activated, refused or withdrawn."""
        self._swaps.labels(outcome).inc()
