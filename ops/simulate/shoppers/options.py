"""What may be asked of `headgate simulate shoppers`, and what follows from it: pure decisions, made before any work.

Every refusal is a BadSimulation that names the option to change. Knows no terminal, file or broker.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from ops.simulate.cards import DEFAULT_START, BadSimulation
from ops.simulate.options import parse_time
from ops.simulate.output import check_path
from ops.simulate.scenarios import DAY
from ops.simulate.shoppers.people import VISITS_A_DAY
from ops.simulate.shoppers.traffic import DAY_SECONDS, MOST_ITEMS, TrafficConfig, check_traffic

DEFAULT_DAYS = 30.0
#: Of a history, visits are drawn an hour at a time.
HISTORY_STEP = 3_600_000


@dataclass(frozen=True, slots=True)
class ShopOptions:
    """As given by the user; None: not given. days and for_seconds are lengths of time; rate: visits a second."""

    output: Path | None = None
    items_output: Path | None = None
    kafka: bool = False
    users: int = 2_000
    items: int = 500
    days: float | None = None
    start: str | None = None
    rate: float | None = None
    for_seconds: float | None = None
    slates: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True)
class HistoryPlan:
    """Visits within [config.start, end), epoch milliseconds."""

    config: TrafficConfig
    end: int


def check_options(options: ShopOptions) -> None:
    """That the options fit together."""
    if options.output is None and not options.kafka:
        raise BadSimulation("say where to: --output FILE or --kafka")
    if options.output is not None and options.kafka:
        raise BadSimulation("--output and --kafka exclude each other")
    if not 1 <= options.items <= MOST_ITEMS:
        raise BadSimulation(f"items must be between 1 and {MOST_ITEMS}, not {options.items}")
    if options.output is not None:
        _check_files(options.output, options)
    elif options.items_output is not None:
        raise BadSimulation("--items-output is for --output; with --kafka the items go to the topic `items`")
    if options.rate is not None:
        _check_live(options)
    elif options.for_seconds is not None:
        raise BadSimulation("--for needs --rate; --days says how long a history is")


def _check_files(output: Path, options: ShopOptions) -> None:
    if options.rate is not None:
        raise BadSimulation("--rate needs --kafka: live visits do not go into a file")
    check_path(output)
    if options.items_output is not None:
        check_path(options.items_output)
        if options.items_output.absolute() == output.absolute():
            raise BadSimulation(f"--output and --items-output are both {output}")


def _check_live(options: ShopOptions) -> None:
    if options.for_seconds is not None and not 0 < options.for_seconds < math.inf:
        raise BadSimulation(f"--for must be above 0 seconds, not {options.for_seconds:g}")
    for name, value in {"--days": options.days, "--start": options.start}.items():
        if value is not None:
            raise BadSimulation(f"{name} is for a history; live visits (--rate) begin now and end with --for")


def history_plan(options: ShopOptions, now: int) -> HistoryPlan:
    """now: epoch milliseconds. Into Kafka a history ends now, as Headgate refuses what lies in the future."""
    days = DEFAULT_DAYS if options.days is None else options.days
    if not 0 < days < math.inf:
        raise BadSimulation(f"--days must be above 0, not {days:g}")
    length = max(round(days * DAY), 1)
    start = now - length if options.kafka else DEFAULT_START
    if options.start is not None:
        start = parse_time(options.start)
    if options.kafka and start + length > now:
        raise BadSimulation("--start and --days reach into the future, which --kafka does not take")
    config = TrafficConfig(
        start=start,
        users=options.users,
        rate=options.users * VISITS_A_DAY / DAY_SECONDS,
        seed=options.seed,
        run=f"history{start}" if options.kafka else "1",
        step=min(HISTORY_STEP, length),
    )
    check_traffic(config)
    return HistoryPlan(config, start + length)


def live_config(options: ShopOptions, start: int) -> TrafficConfig:
    """start: epoch milliseconds. --rate must be given."""
    assert options.rate is not None
    config = TrafficConfig(start=start, users=options.users, rate=options.rate, seed=options.seed, run=f"live{start}")
    check_traffic(config)
    return config
