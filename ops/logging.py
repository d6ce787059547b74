"""Structured logs on standard error: for people (console) or machines (one JSON object a line).

Passwords in URLs are masked wherever they occur in an event, whoever wrote it. Logs of libraries that use the
standard library's logging (Faust, aiokafka, Alembic) take the same way out.
"""

import logging
import logging.config
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

# scheme://user:password@host, also with an empty user as Redis URLs have it.
PASSWORD_IN_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/@]*):[^\s@]+@")
MASK = r"\1:***@"

# Chatty at their info level, or louder than what is wrong deserves while a broker is away.
QUIETER = {"aiokafka": "WARNING", "kafka": "WARNING", "faust": "WARNING", "mode": "WARNING", "alembic": "WARNING"}


def mask_passwords(value: Any) -> Any:
    """The value with passwords in URLs replaced, at any depth of dicts, lists and tuples."""
    if isinstance(value, str):
        return PASSWORD_IN_URL.sub(MASK, value)
    if isinstance(value, dict):
        return {key: mask_passwords(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask_passwords(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return mask_passwords(str(value))


def _masked(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    # exc_info and what the standard library's bridge adds are turned to text before this or removed after it.
    return {key: item if key.startswith("_") else mask_passwords(item) for key, item in event.items()}


def configure_logging(level: str = "info", format: str = "console") -> None:
    """Set up structlog and the standard library's logging for this process. `format`: console or json."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _masked,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        foreign_pre_chain=[structlog.stdlib.PositionalArgumentsFormatter(), *shared],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, floor in QUIETER.items():
        logging.getLogger(name).setLevel(max(logging.getLevelName(floor), root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
