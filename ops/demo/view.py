"""How the demo looks: pure functions from what was read to a terminal picture, a line of a log, a summary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ops.demo.readings import AlertFigures
from ops.demo.shop_readings import RANDOM, PolicyFigures, ShopFigures, lift
from streams.contract import Alert

SEVERITY_STYLES = {"critical": "bold white on red", "high": "bold red", "medium": "yellow", "low": "dim"}
MOST_REASONS = 2
#: Versions of the policy, the newest ones, and what they are compared with.
MOST_POLICIES = 4
#: Lines of the terminal that are not alerts or exports.
OTHER_LINES = 16


@dataclass(frozen=True, slots=True)
class Picture:
    """One moment of the live phase. Times in seconds, latency from Kafka to the SQL commit; events: live ones that are
    scored and stored; learning: how the policy's training stands; dashboard: the console's address."""

    elapsed: float
    seconds: float | None
    events: int
    events_per_second: float
    latency_p50: float | None
    latency_p99: float | None
    lag: int
    figures: AlertFigures
    shop: ShopFigures
    learning: str
    newest: Sequence[Alert]
    model: str
    dashboard: str
    exports: Sequence[str]


def live_view(picture: Picture, rows: int) -> RenderableType:
    """rows: lines of the terminal; as many alerts are shown as fit."""
    room = max(1, (rows - OTHER_LINES - len(picture.exports)) // MOST_REASONS)
    return Group(
        _header(picture), _policies(picture.shop, picture.learning), _alerts(picture.newest[:room]), _footer(picture)
    )


def status_line(picture: Picture) -> str:
    """The same for a log."""
    figures = picture.figures
    return (
        f"{picture.elapsed:5.0f} s  {picture.events:>8,} events  {picture.events_per_second:>6,.0f}/s  "
        f"p50 {_milliseconds(picture.latency_p50)}  p99 {_milliseconds(picture.latency_p99)}  lag {picture.lag:,}  "
        f"{figures.alerts} alerts  precision {_percent(figures.precision)} of {figures.labelled} labelled  "
        f"reward per slate {_rewards(picture.shop)} ({picture.learning})"
    )


def summary_table(summary: Mapping[str, Any]) -> Table:
    table = Table(title="Headgate demo", show_header=False, title_justify="left")
    table.add_column(justify="left")
    table.add_column(justify="right")
    for name, value in summary.items():
        table.add_row(name.replace("_", " "), _shown(value))
    return table


def _header(picture: Picture) -> Panel:
    table = Table.grid(padding=(0, 3), expand=True)
    for _ in range(6):
        table.add_column(justify="center")
    table.add_row("events/s", "p50", "p99", "lag", "alerts", "precision")
    figures = picture.figures
    table.add_row(
        Text(f"{picture.events_per_second:,.0f}", "bold green"),
        Text(_milliseconds(picture.latency_p50), "bold"),
        Text(_milliseconds(picture.latency_p99), "bold"),
        Text(f"{picture.lag:,}", "bold"),
        Text(str(figures.alerts), "bold yellow"),
        Text(f"{_percent(figures.precision)} of {figures.labelled}", "bold"),
    )
    left = "" if picture.seconds is None else f" of {picture.seconds:.0f}"
    title = f"Headgate  {picture.model}  {picture.elapsed:.0f}{left} s  {picture.events:,} events"
    return Panel(
        table, title=title, title_align="left", subtitle="latency: Kafka to SQL commit", subtitle_align="right"
    )


def _policies(shop: ShopFigures, learning: str) -> RenderableType:
    """What slates earn, and how much more than those of the random holdout."""
    table = Table.grid(padding=(0, 3), expand=True)
    shown = shop.policies[-MOST_POLICIES:]
    for each in shown:
        table.add_column(each.policy, justify="center", no_wrap=True)
    table.add_row(*(f"{escape(each.policy)} [dim]{each.slates:,}[/dim]" for each in shown))
    table.add_row(*(_reward(each, shop) for each in shown))
    content: RenderableType = table if shown else Text("no slate was looked at yet\n", "dim")
    title = f"reward per slate  {shop.recommendations:,} recommendations  {learning}"
    return Panel(content, title=title, title_align="left", subtitle="and more than at random", subtitle_align="right")


def _reward(figures: PolicyFigures, shop: ShopFigures) -> Text:
    more = None if figures.policy == RANDOM else lift(figures, shop.of(RANDOM))
    if more is None:
        return Text(f"{figures.per_slate:.2f}", "bold")
    return Text(f"{figures.per_slate:.2f}  {more:+.0%}", "bold green" if more > 0 else "bold red")


def _alerts(alerts: Sequence[Alert]) -> RenderableType:
    if not alerts:
        return Panel(Text("no alert yet", "dim"), title="latest alerts", title_align="left")
    table = Table(expand=True, title="latest alerts", title_justify="left", title_style="", pad_edge=False)
    for name in ("time", "account", "severity", "score", "amount"):
        table.add_column(name, no_wrap=True)
    table.add_column("why", ratio=1)
    for alert in alerts:
        why = "\n".join(escape(reason.text) for reason in alert.reasons[:MOST_REASONS])
        amount = f"{alert.timeline[-1].amount:,.2f}" if alert.timeline else ""
        more = f" ({len(alert.event_ids)})" if len(alert.event_ids) > 1 else ""
        table.add_row(
            f"{alert.occurred_at:%H:%M:%S}",
            escape(alert.account_id),
            Text(alert.severity if alert.status == "open" else "closed", SEVERITY_STYLES[alert.severity]),
            f"{alert.score:.3f}",
            amount + more,
            why,
        )
    return table


def _footer(picture: Picture) -> RenderableType:
    lines = "\n".join(escape(line) for line in picture.exports)
    end = "Ctrl-C ends the demo." if picture.seconds is None else "It ends by itself; Ctrl-C ends it now."
    console = f"[dim]In the browser:[/dim] [bold]{escape(picture.dashboard)}[/bold]"
    return Text.from_markup(f"{console}\n[dim]Your own clients, in another terminal:[/dim]\n{lines}\n[dim]{end}[/dim]")


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:,.0f} ms"


def _rewards(shop: ShopFigures) -> str:
    return ", ".join(f"{each.policy} {each.per_slate:.2f}" for each in shop.policies) or "-"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.3f}"
    if isinstance(value, Mapping):
        return "\n".join(f"{name} {_shown(each)}" for name, each in value.items()) or "-"
    return f"{value:,}" if isinstance(value, int) else str(value if value is not None else "-")
