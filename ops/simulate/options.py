"""What may be asked of `headgate simulate`, and what follows from it: pure decisions, made before any work.

Every refusal is a BadSimulation that names the option to change. Knows no terminal, file or broker.
"""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from ops.simulate.cards import DEFAULT_START, BadSimulation, SimulationConfig
from ops.simulate.labels import LabelDelay
from ops.simulate.live import LIVE_LABEL_DELAY, LiveConfig
from ops.simulate.output import check_path
from ops.simulate.scenarios import DAY, SCENARIO_NAMES

LabelsFor = Literal["all", "frauds"]

DEFAULT_DAYS = 30.0
HISTORY_LABEL_DELAY = LabelDelay(7 * DAY, 7 * DAY)
UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": DAY}
SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhd])")


@dataclass(frozen=True, slots=True)
class Options:
    """As given by the user; None: not given. days and for_seconds are lengths of time, rate is a second's."""

    output: Path | None = None
    labels: Path | None = None
    kafka: bool = False
    accounts: int = 10_000
    merchants: int = 1_000
    days: float | None = None
    start: str | None = None
    events: int | None = None
    rate: float | None = None
    for_seconds: float | None = None
    fraud_share: float = 0.01
    scenarios: str = ",".join(SCENARIO_NAMES)
    seed: int = 0
    label_delay: str | None = None
    labels_for: LabelsFor | None = None

    @property
    def legitimate_share(self) -> float:
        return 0.0 if self.labels_for == "frauds" else 1.0


def check_options(options: Options) -> None:
    """That the options fit together."""
    if options.output is None and not options.kafka:
        raise BadSimulation("say where to: --output FILE or --kafka")
    if options.output is not None and options.kafka:
        raise BadSimulation("--output and --kafka exclude each other")
    if options.output is not None:
        _check_files(options.output, options)
    elif options.labels is not None:
        raise BadSimulation("--labels is for --output; with --kafka the labels go to the topic `feedback`")
    if options.rate is not None:
        _check_live(options)
    elif options.for_seconds is not None:
        raise BadSimulation("--for needs --rate; --days says how long a history is")
    scenario_names(options)


def _check_files(output: Path, options: Options) -> None:
    if options.rate is not None:
        raise BadSimulation("--rate needs --kafka: live traffic does not go into a file")
    check_path(output)
    if options.labels is not None:
        check_path(options.labels)
        if options.labels.absolute() == output.absolute():
            raise BadSimulation(f"--output and --labels are both {output}")
    elif options.label_delay is not None or options.labels_for is not None:
        raise BadSimulation("--label-delay and --labels-for need --labels FILE (or --kafka)")


def _check_live(options: Options) -> None:
    if options.for_seconds is not None and not 0 < options.for_seconds < math.inf:
        raise BadSimulation(f"--for must be above 0 seconds, not {options.for_seconds:g}")
    given = {"--days": options.days, "--start": options.start, "--events": options.events}
    for name, value in given.items():
        if value is not None:
            raise BadSimulation(f"{name} is for a history; live traffic (--rate) begins now and ends with --for")


def history_config(options: Options, now: int) -> SimulationConfig:
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
    return SimulationConfig(
        accounts=options.accounts,
        merchants=options.merchants,
        start=start,
        end=start + length,
        events=options.events,
        fraud_share=options.fraud_share,
        scenarios=scenario_names(options),
        seed=options.seed,
        run=f"history{start}" if options.kafka else "1",
    )


def history_label_delay(options: Options) -> LabelDelay:
    return HISTORY_LABEL_DELAY if options.label_delay is None else parse_delay(options.label_delay)


def live_config(options: Options, start: int) -> LiveConfig:
    """start: epoch milliseconds. --rate must be given."""
    assert options.rate is not None
    return LiveConfig(
        start=start,
        accounts=options.accounts,
        merchants=options.merchants,
        rate=options.rate,
        fraud_share=options.fraud_share,
        scenarios=scenario_names(options),
        seed=options.seed,
        label_delay=LIVE_LABEL_DELAY if options.label_delay is None else parse_delay(options.label_delay),
        legitimate_share=options.legitimate_share,
    )


def scenario_names(options: Options) -> tuple[str, ...]:
    names = tuple(name.strip() for name in options.scenarios.split(",") if name.strip())
    if not names:
        raise BadSimulation(
            f"--scenarios names none; there are {', '.join(SCENARIO_NAMES)} (--fraud-share 0: no fraud)"
        )
    return names


def parse_delay(text: str) -> LabelDelay:
    """7d, 30s, 1.5h, or a range: 5s-20s."""
    shortest, dash, longest = text.partition("-")
    return LabelDelay(_milliseconds(shortest, text), _milliseconds(longest if dash else shortest, text))


def _milliseconds(span: str, text: str) -> int:
    found = SPAN.fullmatch(span.strip())
    if found is None:
        raise BadSimulation(f"--label-delay must be like 7d, 12h, 10m, 30s or 5s-20s, not {text!r}")
    return round(float(found[1]) * UNITS[found[2]])


def parse_time(text: str) -> int:
    """Epoch milliseconds of a date or an RFC 3339 time; UTC where it names no zone."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise BadSimulation(f"--start must be like 2026-01-31 or 2026-01-31T12:00:00Z, not {text!r}") from None
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)
