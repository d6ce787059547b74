"""A thread that works while others hardly want the processor.

For threads that hardly ever hold Python's lock: one that waits for a core while it holds the lock has all others wait.
"""

import os
import sys
import threading

import structlog

log = structlog.get_logger(__name__)

#: Others have 0. It gets a tenth of what they get where they want all, so that it goes on under full load, too.
NICENESS = 10


def work_at_low_priority() -> None:
    """The calling thread. On Linux alone: elsewhere priorities are a whole process's."""
    if sys.platform != "linux":
        return
    try:
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))
    except OSError as error:  # a sandbox may refuse it; the work is done all the same
        log.info("a thread keeps its priority", thread=threading.current_thread().name, error=str(error))
