"""What becomes of a worker that hangs (streams/watchdog.py): it says so, shows where each thread is, and ends at once.

Nothing in such a process can be trusted to end in good order, and nothing has to: what was not committed did not
happen.
"""

import faulthandler
import os
import sys
import threading
import time
from typing import NoReturn

import structlog
from sqlalchemy import text

from storage.database import Database, DatabaseUnavailable
from streams.flow import Flow
from streams.health import FlowMetrics
from streams.kafka import KafkaSettings
from streams.kafka_logs import Broker
from streams.kafka_refusals import Refusals
from streams.watchdog import PATIENCE, Watchdog

log = structlog.get_logger(__name__)

#: EX_TEMPFAIL: start it again.
EXIT_HANGS = 75
ANSWER_SECONDS = 10.0


def build_watchdog(
    flow: Flow,
    kafka: KafkaSettings,
    database: Database,
    metrics: FlowMetrics,
    refusals: Refusals,
    patience: float = PATIENCE,
) -> Watchdog:
    return Watchdog(
        flow.progress,
        lambda: flow.turns,
        Broker(kafka, on_error=refusals.hear),
        lambda: answers(database),
        end_process,
        metrics,
        time.monotonic,
        patience,
    )


def answers(database: Database, seconds: float = ANSWER_SECONDS) -> bool:
    """Whether the database answers the simplest question in time; it may also keep silent for ever."""
    answered = threading.Event()

    def ask() -> None:
        try:
            with database.reading() as connection:
                connection.execute(text("SELECT 1"))
            answered.set()
        except DatabaseUnavailable as error:
            log.warning("the database is away", error=str(error))

    thread = threading.Thread(target=ask, name="ask-database", daemon=True)
    thread.start()
    thread.join(seconds)
    return answered.is_set()


def end_process(message: str) -> NoReturn:
    log.critical(message)
    faulthandler.dump_traceback(all_threads=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_HANGS)
