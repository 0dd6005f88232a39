"""The log of a process: one JSON object a line on standard error, from a level on."""

import logging
import sys

import structlog

from shared.settings import LogLevel


def start_log() -> None:
    """Where the log goes and how a line looks. Its level is the default until the settings are read."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    set_log_level("info")


def set_log_level(level: LogLevel) -> None:
    """Drop what is below `level`, also of loggers that exist already."""
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(number))


def uvicorn_level(level: LogLevel) -> LogLevel:
    """The level of uvicorn's own log: its `info` lines repeat what `trucban` prints, so only `debug` shows them."""
    return "warning" if level == "info" else level
