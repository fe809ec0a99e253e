"""One JSON line per request on stderr. What people said, showed or asked never enters a log."""

from __future__ import annotations

import sys
import traceback

import structlog


def configure_logging() -> None:
    """JSON lines, unless whoever runs this process has set up structlog already."""
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,  # the id of the request being answered
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # wherever that points by then
    )


def describe(error: BaseException) -> dict[str, object]:
    """Where an exception came from. Its message may quote user content and stays out."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "exception": type(error).__name__,
        "where": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]],
    }
