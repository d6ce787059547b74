"""The demo's shoppers: what they did before it began, and then what they do with the slates that Redis has for them."""

from dataclasses import dataclass

import numpy as np

from ops.demo.prepare import DemoConfig
from ops.kafka_settings import kafka_settings
from ops.settings import Settings
from ops.simulate.shoppers.command import live_traffic
from ops.simulate.shoppers.kafka import Sent, ShopOutput
from ops.simulate.shoppers.slates import RedisSlates
from ops.simulate.shoppers.traffic import TrafficConfig

ITEMS = 300
#: Visits for each transaction.
VISITS_SHARE = 0.1
#: Seconds between two visits of a shopper, and of visits before the demo begins.
BETWEEN_VISITS, HISTORY_SECONDS = 10, 90


@dataclass(frozen=True, slots=True)
class ShopSize:
    """visits: a second on average."""

    visits: float
    shoppers: int

    @staticmethod
    def of(config: DemoConfig) -> "ShopSize":
        visits = float(np.clip(VISITS_SHARE * config.rate, 2.0, 50.0))
        return ShopSize(visits, max(round(BETWEEN_VISITS * visits), 50))


class DemoShop:
    """Closes what it opened when `close` is called. Raises as ShopOutput and RedisSlates."""

    def __init__(self, settings: Settings, config: DemoConfig, now: int) -> None:
        """now: epoch milliseconds; visits begin HISTORY_SECONDS before."""
        size, start = ShopSize.of(config), now - HISTORY_SECONDS * 1000
        self.sent = Sent()
        self._slates = RedisSlates(settings.redis.get_secret_value(), settings.redis_prefix)
        self._output = ShopOutput(kafka_settings(settings), topic_prefix=settings.topic_prefix, linger_ms=0)
        traffic = TrafficConfig(
            start=start, users=size.shoppers, rate=size.visits, seed=config.seed, run=f"live{start}"
        )
        self._traffic = live_traffic(traffic, ITEMS, self._slates)

    def send_until(self, now: int) -> int:
        """What is due by `now` (epoch milliseconds) and was not sent yet; how many engagements."""
        sent = self._output.send(self._traffic.catalogue, self._traffic.until(now))
        self.sent = self.sent.plus(sent)
        return sent.engagements

    def deliver(self) -> None:
        self._output.deliver()

    def close(self) -> None:
        self._slates.close()
