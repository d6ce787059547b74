"""The result of `headgate bench recommendation` for a person: a table for each part that ran. Fits 100 columns."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.table import Table

from ops.bench.recommendation.titles import RECOGYM, RECSIM

Figures = Mapping[str, Any]


def tables(result: Figures) -> Iterator[Table]:
    """result: of command.result_of."""
    for name, make in TABLES.items():
        if name in result:
            yield make(result[name])


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    return table


def _interval(figures: Figures, scale: float, digits: int) -> str:
    return f"{scale * figures['low']:.{digits}f} to {scale * figures['high']:.{digits}f}"


def interest(found: Figures) -> Table:
    table = _table("RecSim, interest evolution: reward of a session", "", "reward", "95 % interval")
    rows = {"recommender": found, **found["baselines"]}
    for name, figures in rows.items():
        table.add_row(RECSIM.get(name, name), f"{figures['reward']:.1f}", _interval(figures, 1, 1))
    return table


def satisfaction(found: Figures) -> Table:
    columns = ("hidden sensitivity", "reward", "95 % interval", "best constant", "share of it")
    table = _table("RecSim, long-term satisfaction: reward of a session", *columns)
    for sensitivity, figures in found.items():
        best = figures["best_constant"]
        share = f"{figures['reward'] / best:.1%}"
        table.add_row(sensitivity, f"{figures['reward']:.0f}", _interval(figures, 1, 0), f"{best:.0f}", share)
    return table


def recogym(found: Figures) -> Table:
    table = _table("RecoGym: clicks per 100 products shown", "")
    for seed in found["worlds"]:
        table.add_column(f"world {seed}", justify="right")
        table.add_column("95 % interval", justify="right")
    for name, title in RECOGYM.items():
        cells = []
        for world in found["worlds"].values():
            figures = world if name == "headgate" else world["baselines"].get(name)
            cells += [f"{100 * figures['ctr']:.2f}", _interval(figures, 100, 2)] if figures else ["", ""]
        table.add_row(title, *cells)
    return table


def open_bandit(found: Figures) -> Table:
    columns = ("", "IPS", "obp's", "95 % interval", "effective size", "largest weight", "gate")
    table = _table("Open Bandit sample: clicks per item shown, by the other side's log", *columns)
    for campaign, directions in found.items():
        for direction, one in directions.items():
            table.add_row(
                f"{campaign}, {direction.replace('_', ' ')}",
                f"{one['ips']:.4f}",
                f"{one['obp']['ipw']:.4f}",
                _interval(one, 1, 4),
                f"{one['effective_sample_size']:,.0f}",
                f"{one['largest_weight']:,.1f}",
                one["verdict"],
            )
    return table


def gate(found: Figures) -> Table:
    title = f"Gate: {found['logs']} simulated logs, {found['not_better']} with a challenger that is not better"
    table = _table(title, "", "false promotions", "true promotions")
    for name, figures in found.items():
        if isinstance(figures, Mapping) and "false_promotion_rate" in figures:
            table.add_row(name, f"{figures['false_promotion_rate']:.1%}", f"{figures['true_promotion_rate']:.1%}")
    return table


def learning(found: Figures) -> Table:
    title = f"Learning in a live shop: {found['users']:,} users, reward of a look at a slate"
    table = _table(title, "serving", "reward", "95 % interval", "holdout", "best possible", "retraining after it")
    for each in found["generations"]:
        own, random = each["earned"][each["serving"]], each["earned"]["random"]
        interval = f"{own['low']:.2f} to {own['high']:.2f}"
        decision = each.get("retraining", {}).get("decision", "")
        rewards = (f"{own['reward']:.2f}", interval, f"{random['reward']:.2f}", f"{each['best']:.2f}")
        table.add_row(each["serving"], *rewards, decision)
    return table


def speed(found: Figures) -> Table:
    table = _table("Speed", "", "")
    for items, by_batch in found.get("decisions_per_second", {}).items():
        for batch, pace in by_batch.items():
            table.add_row(f"slates a second, {int(items):,} items, {batch} users at once", f"{pace:,.0f}")
    if "latency" in found:
        latency = found["latency"]
        table.add_section()
        for name in ("p50", "p99", "max"):
            table.add_row(f"Kafka to Redis, {latency['rate']:.0f} a second, {name}", f"{1000 * latency[name]:.1f} ms")
    return table


TABLES: Mapping[str, Callable[[Figures], Table]] = {
    "recsim_interest": interest,
    "recsim_satisfaction": satisfaction,
    "recogym": recogym,
    "open_bandit": open_bandit,
    "gate": gate,
    "learning": learning,
    "speed": speed,
}
