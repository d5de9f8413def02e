"""Logging: one event a line, to standard error. Of what a caller sends, only request ids are logged."""

import logging
import sys

import structlog
from structlog.processors import ExceptionRenderer
from structlog.tracebacks import ExceptionDictTransformer

from steersman_service.telemetry.traces import with_trace


def configure_logs(level: str, log_format: str) -> None:
    """`level` is a name of `logging`, `log_format` "json" or "console"."""
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        with_trace,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendered = _rendered(log_format)
    structlog.configure(
        processors=[*shared, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    # Libraries (grpc, asyncio) log through `logging`: records without a handler come out in the same form.
    last = logging.StreamHandler(sys.stderr)
    last.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
    last.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    logging.lastResort = last


def _rendered(log_format: str) -> list[structlog.typing.Processor]:
    """The last processors. Tracebacks come without the values of variables: among those are requests of callers."""
    if log_format == "json":
        exceptions = ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
        return [exceptions, structlog.processors.JSONRenderer()]
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
