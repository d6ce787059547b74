"""The body of `headgate simulate shoppers`: does what options.py found sensible, into files or into Kafka.

A thin shell around files, the broker, Redis, the clock and Ctrl-C. What shoppers do, and what may be asked for, is
decided elsewhere.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

from ops.kafka_settings import kafka_settings
from ops.settings import Settings
from ops.simulate.cards import Progress
from ops.simulate.command import Clock, milliseconds, until_interrupted
from ops.simulate.output import table_file
from ops.simulate.scenarios import DAY
from ops.simulate.shoppers.assortment import history_catalogue, live_catalogue
from ops.simulate.shoppers.kafka import Sent, ShopOutput
from ops.simulate.shoppers.options import HistoryPlan, ShopOptions, check_options, history_plan, live_config
from ops.simulate.shoppers.output import ENGAGEMENT_SCHEMA, EngagementFile, write_items
from ops.simulate.shoppers.slates import RedisSlates
from ops.simulate.shoppers.traffic import Earnings, Slates, Traffic, TrafficBatch, TrafficConfig

#: Seconds between two looks at the clock.
INTERVAL = 0.05


@dataclass(frozen=True, slots=True)
class Outcome:
    """seconds: from the first decision until everything was written or delivered; earnings: by policy."""

    sent: Sent
    visits: int
    earnings: Mapping[str, Earnings]
    seconds: float

    def summary(self) -> str:
        sent = self.sent
        made = (
            f"{self.visits:,} visits, {sent.engagements:,} engagements, {sent.items:,} items, {sent.rewards:,} rewards"
        )
        lines = [f"{made}; {self.seconds:.1f} s, {sent.engagements / self.seconds:,.0f} engagements/s"]
        for policy, earned in sorted(self.earnings.items()):
            lines.append(f"  {policy:24} {earned.slates:,} slates, {earned.reward / earned.slates:.3f} reward each")
        return "\n".join(lines)

    def as_json(self) -> dict[str, object]:
        return {
            "visits": self.visits,
            "engagements": self.sent.engagements,
            "items": self.sent.items,
            "rewards": self.sent.rewards,
            "policies": {
                policy: {"slates": earned.slates, "reward_per_slate": round(earned.reward / earned.slates, 4)}
                for policy, earned in sorted(self.earnings.items())
            },
            "seconds": round(self.seconds, 3),
            "engagements_per_second": round(self.sent.engagements / self.seconds, 1),
        }


def run_shoppers(
    options: ShopOptions, load_settings: Callable[[], Settings], progress: Progress, clock: Clock = time.time
) -> Outcome:
    """load_settings is called only where a service is needed. Raises BadSimulation, KafkaUnavailable, TopicMissing,
    ServiceUnavailable (no Redis)."""
    began = time.perf_counter()
    check_options(options)
    if options.rate is not None:
        sent, traffic = _live_into_kafka(options, load_settings(), progress, clock)
    else:
        plan = history_plan(options, milliseconds(clock()))
        catalogue = history_catalogue(options.items, options.seed, plan.config.start, plan.end)
        traffic = Traffic(plan.config, catalogue)
        if options.output is not None:
            sent = _history_into_files(traffic, plan, options.output, options.items_output, progress)
        else:
            sent = _history_into_kafka(traffic, plan, load_settings(), progress)
    return Outcome(sent, traffic.visits, traffic.earnings, time.perf_counter() - began)


def parts_of_history(traffic: Traffic, plan: HistoryPlan, progress: Progress) -> Iterator[TrafficBatch]:
    """A day at a time, so that a long one needs no more memory."""
    start, end = plan.config.start, plan.end
    for until in (*range(start + DAY, end, DAY), end):
        yield traffic.until(until - 1)
        progress("simulate", (until - start) / (end - start))


def _history_into_files(
    traffic: Traffic, plan: HistoryPlan, output: Path, items_output: Path | None, progress: Progress
) -> Sent:
    sent = Sent()
    with table_file(output, ENGAGEMENT_SCHEMA) as write:
        file = EngagementFile(write, traffic.people.user_ids, traffic.catalogue.item_ids)
        for batch in parts_of_history(traffic, plan, progress):
            file.write(batch.engagements)
            sent = sent.plus(Sent(engagements=len(batch.engagements)))
    items = 0 if items_output is None else write_items(items_output, traffic.catalogue, plan.end)
    return replace(sent, items=items)


def _history_into_kafka(traffic: Traffic, plan: HistoryPlan, settings: Settings, progress: Progress) -> Sent:
    sent = Sent()
    with open_shop_output(settings) as output:
        for batch in parts_of_history(traffic, plan, progress):
            sent = sent.plus(output.send(traffic.catalogue, batch))
    return sent


def _live_into_kafka(
    options: ShopOptions, settings: Settings, progress: Progress, clock: Clock
) -> tuple[Sent, Traffic]:
    live_config(options, start=0)  # refuses before it connects
    with ExitStack() as stack:
        slates: RedisSlates | None = None
        if options.slates:
            slates = RedisSlates(settings.redis.get_secret_value(), settings.redis_prefix)
            stack.enter_context(closing(slates))
        output = stack.enter_context(open_shop_output(settings, linger_ms=0))
        stopping = stack.enter_context(until_interrupted())
        traffic = live_traffic(live_config(options, milliseconds(clock())), options.items, slates)
        sent = send_live(traffic, output, options.for_seconds, progress, clock=clock, stopping=stopping)
    return sent, traffic


def live_traffic(config: TrafficConfig, items: int, slates: Slates | None) -> Traffic:
    catalogue = live_catalogue(items, config.seed, config.run, config.start, config.pace)
    return Traffic(config, catalogue, slates)


def send_live(
    traffic: Traffic,
    output: ShopOutput,
    seconds: float | None,
    progress: Progress,
    *,
    clock: Clock,
    stopping: threading.Event,
) -> Sent:
    """Until the time is over (None: never) or somebody stops it; all that was due by then is sent. The pauses follow
    the clock, so slow services make larger batches, not a lower rate."""
    start = traffic.config.start / 1000
    sent, over = Sent(), False
    while not over:
        began = clock()
        over = stopping.is_set() or (seconds is not None and began >= start + seconds)
        now = began if seconds is None else min(began, start + seconds)
        sent = sent.plus(output.send(traffic.catalogue, traffic.until(math.floor(now * 1000))))
        if seconds is not None:
            progress("live", (now - start) / seconds)
        rest = began + INTERVAL - clock()
        if not over and rest > 0:
            stopping.wait(rest)
    return sent


def open_shop_output(settings: Settings, linger_ms: int = 5) -> ShopOutput:
    return ShopOutput(kafka_settings(settings), topic_prefix=settings.topic_prefix, linger_ms=linger_ms)
