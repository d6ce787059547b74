"""`headgate bench model`: the step rate of the detector's network alone, by batch size, hidden units and device.

A step is what RunningModel.score does with a built batch, on one thread as in the worker: inputs to the device, gather
the accounts' hidden states, GRU, both heads, scatter the states back, scores to the host, calibration. Decoding,
features and alerts take no part; nothing here knows of Kafka, SQL or Redis. The detector is untrained, which costs the
same; the payments are of accounts that each had one before. Every pass must give the scores that the CPU gives for the
same payments in small batches.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table

from models.artifact import TrainedDetector
from models.detector import DetectorConfig
from models.events import Events
from models.features import FeatureBatch, FeatureBuilder
from models.running import RunningModel
from ops.bench.measure import BenchmarkFailed
from ops.bench.state import events_of, untrained
from ops.progress import progress_bar

Floats = npt.NDArray[np.float64]
Progress = Callable[[str, float], None]
Clock = Callable[[], float]

#: Of a batch with a hot key, the share of that one account; each of these steps needs the one before.
HOT_SHARE = 0.4
#: A pass has at least so many events, and two batches, so that accounts come again.
LEAST_EVENTS = 16_384
#: Events of each batch in which the CPU scores what the others are compared with.
SMALL_BATCH = 100
#: By which a score (0 to 1) may differ: kernels sum in different orders, and states take that along.
TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class ModelBenchConfig:
    """batches: events of a batch, each of another account where there are enough accounts; hot_batch: of the batch
    with a hot key; repeats: passes of which the median counts."""

    batches: Sequence[int] = (256, 1_024, 4_096, 8_192, 16_384, 65_536)
    hidden: Sequence[int] = (64, 128, 256)
    accounts: int = 100_000
    hot_batch: int = 8_192
    repeats: int = 3


@dataclass(frozen=True, slots=True)
class Load:
    """The same events as batches of one size and as small ones. batch: events of a batch."""

    batch: int
    hot_key: bool
    built: Sequence[FeatureBatch]
    small: Sequence[FeatureBatch]


@dataclass(frozen=True, slots=True)
class StepRate:
    """largest_difference: of a score (0 to 1) from the CPU's in small batches, over all passes."""

    device: str
    hidden: int
    batch: int
    hot_key: bool
    events_per_second: float
    microseconds_per_event: float
    largest_difference: float


def run_model(config: ModelBenchConfig, *, quiet: bool, clock: Clock = time.perf_counter) -> dict[str, Any]:
    """The result as `--json` prints it; shown as tables unless quiet. clock: seconds. Raises BenchmarkFailed."""
    if not config.batches or not config.hidden or min(*config.batches, *config.hidden) < 1:
        raise BenchmarkFailed("it takes a size of batches and a number of hidden units, each 1 or more")
    torch.set_num_threads(1)
    with progress_bar(quiet) as progress:
        rates = list(step_rates(config, progress, clock))
    result = {
        "steps": [asdict(rate) for rate in rates],
        "accounts": config.accounts,
        "repeats": config.repeats,
        "tolerance": TOLERANCE,
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    if not quiet:
        show(rates, Console())
    if wrong := problems(rates):
        raise BenchmarkFailed(f"the figures do not count: {'; '.join(wrong)}")
    return result


def step_rates(config: ModelBenchConfig, progress: Progress, clock: Clock) -> Iterator[StepRate]:
    whole, small = (FeatureBuilder(DetectorConfig().reporting_limit, config.accounts) for _ in range(2))
    loads = list(build_loads(config, whole, small, progress))
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for hidden in config.hidden:
        weights = detector(hidden, loads[0].built[0])
        reference = Resident(weights, small, "cpu", clock)
        residents = [Resident(weights, whole, device, clock) for device in devices]
        for number, load in enumerate(loads):
            progress(f"{hidden} units", number / len(loads))
            expected, _ = reference.scores(load.small)
            yield from (step_rate(resident, load, expected, config.repeats) for resident in residents)
        progress(f"{hidden} units", 1.0)


def build_loads(
    config: ModelBenchConfig, whole: FeatureBuilder, small: FeatureBuilder, progress: Progress
) -> Iterator[Load]:
    """What one builder makes of batches and the other of the same events in small batches."""
    history = events_of(0, np.arange(config.accounts))
    for builder in (whole, small):
        builder.build(history)
    kinds = [(batch, False) for batch in config.batches] + [(config.hot_batch, True)]
    first = config.accounts
    for number, (batch, hot_key) in enumerate(kinds):
        progress("payments", number / len(kinds))
        built, in_small = [], []
        for accounts in draw_accounts(config.accounts, batch, hot_key=hot_key):
            events = events_of(first, accounts)
            built.append(whole.build(events))
            in_small += [small.build(part) for part in cut(events, SMALL_BATCH)]
            first += batch
        yield Load(batch, hot_key, built, in_small)
    progress("payments", 1.0)


def draw_accounts(accounts: int, batch: int, *, hot_key: bool) -> Iterator[npt.NDArray[np.int64]]:
    """The account of each event, for the batches of one pass; account 0 is the hot one."""
    draw, hot = np.random.default_rng([batch, hot_key]), round(batch * HOT_SHARE) if hot_key else 0
    for _ in range(max(2, -(-LEAST_EVENTS // batch))):
        others = draw.choice(np.arange(1, accounts), batch - hot, replace=batch - hot >= accounts)
        yield draw.permutation(np.concatenate([np.zeros(hot, np.int64), others]))


def cut(events: Events, size: int) -> list[Events]:
    return [events.take(np.arange(first, min(first + size, len(events)))) for first in range(0, len(events), size)]


def detector(hidden: int, sample: FeatureBatch) -> bytes:
    """The file of an untrained detector whose inputs and amounts are scaled as training would."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = untrained(hidden)
    model.network.standardise_by(torch.from_numpy(sample.features), torch.from_numpy(sample.labels))
    return model.to_bytes()


class Resident:
    """A detector on one device, with the hidden states of all accounts that a builder knows."""

    def __init__(self, weights: bytes, features: FeatureBuilder, device: str, clock: Clock) -> None:
        self.device = torch.device(device)
        self._accounts = features.accounts_with_history
        self._clock = clock
        self._running = RunningModel(TrainedDetector.from_bytes(weights), features, self.device, len(self._accounts))

    @property
    def hidden(self) -> int:
        return self._running.units

    @torch.inference_mode()
    def scores(self, batches: Sequence[FeatureBatch]) -> tuple[Floats, float]:
        """float64[n] in 0..1 of all events, in log order, from states that have seen nothing; and the seconds."""
        self._running.clear(self._accounts)
        self._synchronise()
        began = self._clock()
        scores = [self._running.score(built).score for built in batches]
        self._synchronise()
        seconds = self._clock() - began
        return np.concatenate(scores), seconds

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def step_rate(resident: Resident, load: Load, expected: Floats, repeats: int) -> StepRate:
    """Of the passes after a first one, which warms up; expected: float64[n], the CPU's scores in small batches."""
    passes = [resident.scores(load.built) for _ in range(1 + repeats)]
    difference = np.abs(np.stack([scores for scores, _ in passes]) - expected).max()
    seconds = median(seconds for _, seconds in passes[1:])
    return StepRate(
        device=resident.device.type,
        hidden=resident.hidden,
        batch=load.batch,
        hot_key=load.hot_key,
        events_per_second=round(len(expected) / seconds),
        microseconds_per_event=round(1e6 * seconds / len(expected), 3),
        largest_difference=float(difference),
    )


def problems(rates: Sequence[StepRate]) -> list[str]:
    """What is wrong, in words."""
    return [
        f"on {rate.device}, {rate.hidden} units, batches of {rate.batch:,}{' with a hot key' if rate.hot_key else ''}: "
        f"a score differs by {rate.largest_difference:.1e} from the CPU's in batches of {SMALL_BATCH}, "
        f"{TOLERANCE:.0e} is allowed"
        for rate in rates
        if not rate.largest_difference <= TOLERANCE  # so that NaN is wrong
    ]


def show(rates: Sequence[StepRate], console: Console) -> None:
    """For a person; a table for each device, fits 80 columns."""
    units = list(dict.fromkeys(rate.hidden for rate in rates))
    for device in dict.fromkeys(rate.device for rate in rates):
        own = [rate for rate in rates if rate.device == device]
        table = Table(title=f"On {device}, events/s (us an event)", title_justify="left")
        for name in ("batch", *(f"{hidden} units" for hidden in units)):
            table.add_column(name, justify="right")
        for batch, hot_key in dict.fromkeys((rate.batch, rate.hot_key) for rate in own):
            cells = [
                f"{rate.events_per_second:,} ({rate.microseconds_per_event:.2f})"
                for rate in own
                if (rate.batch, rate.hot_key) == (batch, hot_key)
            ]
            table.add_row(f"{batch:,}{', hot key' if hot_key else ''}", *cells)
        console.print(table)
        difference = max(rate.largest_difference for rate in own)
        console.print(f"largest difference from the CPU's scores in batches of {SMALL_BATCH}: {difference:.1e}")
