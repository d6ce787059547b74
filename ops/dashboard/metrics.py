"""Metrics of the console itself. Routes are named as they are written, so that no id is in a label."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2.5, 5, 10)


class DashboardMetrics:
    """On a registry of its own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        into = self.registry
        self._requests = Counter(
            "headgate_dashboard_requests_total",
            "Requests to the console that were answered",
            ["route", "method", "status"],
            registry=into,
        )
        self._seconds = Histogram(
            "headgate_dashboard_request_seconds",
            "Time until the console's answer begins",
            ["route"],
            buckets=SECONDS,
            registry=into,
        )
        self._listeners = Gauge("headgate_dashboard_listeners", "Open event streams of the console", registry=into)
        self._refresh = Histogram(
            "headgate_dashboard_refresh_seconds",
            "Time that the console takes to compute figures in the background",
            ["figures"],
            buckets=(*SECONDS, 30, 60, 300),
            registry=into,
        )
        self._failures = Counter(
            "headgate_dashboard_refresh_failures_total",
            "Times that figures could not be computed because a service was away",
            ["figures"],
            registry=into,
        )
        self._feedback = Counter(
            "headgate_dashboard_feedback_total",
            "Labels and rewards that were given in the console and confirmed by Kafka",
            ["kind"],
            registry=into,
        )
        self._limited = Counter(
            "headgate_dashboard_limited_total",
            "Requests and connections that the console refused or ended because of a limit",
            ["limit"],
            registry=into,
        )

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def listeners(self, streams: int) -> None:
        self._listeners.set(streams)

    def refreshed(self, figures: str, seconds: float) -> None:
        self._refresh.labels(figures).observe(seconds)

    def refresh_failed(self, figures: str) -> None:
        self._failures.labels(figures).inc()

    def feedback_given(self, kind: str) -> None:
        self._feedback.labels(kind).inc()

    def limited(self, limit: str) -> None:
        self._limited.labels(limit).inc()
