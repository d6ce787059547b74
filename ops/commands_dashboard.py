"""`headgate dashboard`: the console in a browser."""

from ops.terminal import load_settings


def dashboard() -> None:
    """Serve the console: alerts, models, recommendations and health in a browser, and its API, until told to stop."""
    from ops.dashboard.server import run_dashboard

    run_dashboard(load_settings())
