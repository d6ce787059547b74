"""The live phase of the demo: traffic into Kafka as it is due, and a picture of what comes of it, until the end.

Traffic is open loop on threads of its own: it goes on whether or not the worker keeps up.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.live import Live

from ops.demo.readings import Readings, WorkerSample, quantile
from ops.demo.shop_readings import ShopReadings
from ops.demo.teacher import Teacher
from ops.demo.view import Picture, live_view, status_line
from ops.service import Service, ServiceUnavailable

REFRESH_SECONDS = 0.25
SEND_SECONDS = 0.05
SAMPLE_SECONDS = 1.0
#: Rates and latencies are those of so many samples.
SAMPLES = 6
#: Seconds between two lines where there is no terminal.
LINE_SECONDS = 10.0


class LiveFeed:
    """Sends what is due until told to stop. Use as a context manager.

    send_until(now): sends everything that is due by `now` (epoch milliseconds) and was not sent; how many events."""

    def __init__(self, name: str, send_until: Callable[[int], int]) -> None:
        self.sent = 0
        self._send_until = send_until
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> "LiveFeed":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        """Raises what ended the traffic, if something did."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                began = time.time()
                self.sent += self._send_until(math.floor(began * 1000))
                self._stop.wait(max(began + SEND_SECONDS - time.time(), 0.0))
        except BaseException as error:
            self._failure = error


class Watch:
    """Shows the running service. What was scored before the watch began is left out; clock in seconds."""

    def __init__(
        self,
        worker: Service,
        feeds: Sequence[LiveFeed],
        readings: Readings,
        shop: ShopReadings,
        teacher: Teacher,
        *,
        model: str,
        dashboard: str,
        exports: Sequence[str],
        clock: Callable[[], float],
    ) -> None:
        self.first_alert_at: float | None = None
        self._worker = worker
        self._feeds = feeds
        self._readings = readings
        self._shop = shop
        self._teacher = teacher
        self._model = model
        self._dashboard = dashboard
        self._exports = exports
        self._clock = clock
        self.began = clock()
        self.before = readings.sample()
        self._samples: deque[tuple[float, WorkerSample]] = deque([(self.began, self.before)], SAMPLES)

    def run(self, console: Console, seconds: float | None) -> None:
        """For so many seconds, or until KeyboardInterrupt. Raises ServiceUnavailable when the worker has ended."""
        if console.is_terminal:
            with Live(console=console, screen=True, auto_refresh=False) as live:
                self._run(seconds, lambda picture: live.update(live_view(picture, console.height), refresh=True))
            return
        printed_at = -LINE_SECONDS

        def print_line(picture: Picture) -> None:
            nonlocal printed_at
            if picture.elapsed - printed_at >= LINE_SECONDS:
                printed_at = picture.elapsed
                console.print(status_line(picture), markup=False, highlight=False, soft_wrap=True)

        self._run(seconds, print_line)

    def _run(self, seconds: float | None, show: Callable[[Picture], None]) -> None:
        pause = threading.Event()
        while seconds is None or self._clock() - self.began < seconds:
            for feed in self._feeds:
                feed.check()
            self._teacher.look()
            if not self._worker.running:
                raise ServiceUnavailable(f"the worker ended. {self._worker.end_of_log()}")
            show(self._picture(seconds))
            pause.wait(REFRESH_SECONDS)

    def _picture(self, seconds: float | None) -> Picture:
        now = self._clock()
        if now - self._samples[-1][0] >= SAMPLE_SECONDS:
            self._samples.append((now, self._readings.sample()))
        (before_at, before), (after_at, after) = self._samples[0], self._samples[-1]
        newest = self._readings.newest_alerts()
        if newest and self.first_alert_at is None:
            self.first_alert_at = now
        return Picture(
            elapsed=now - self.began,
            seconds=seconds,
            events=round(after.applied - self.before.applied),
            events_per_second=(after.applied - before.applied) / max(after_at - before_at, 1e-9),
            latency_p50=quantile(before, after, 0.5),
            latency_p99=quantile(before, after, 0.99),
            lag=round(after.lag),
            figures=self._readings.figures(),
            shop=self._shop.figures(),
            learning=self._teacher.note,
            newest=newest,
            model=self._model,
            dashboard=self._dashboard,
            exports=self._exports,
        )
