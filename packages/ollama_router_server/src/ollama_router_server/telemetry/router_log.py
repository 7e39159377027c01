"""The router's own log: text for people on a terminal, JSON lines elsewhere and in rotated files.

A call to a logger puts the entry on a queue; rendering and writing happen in one thread, so that a slow disk
never delays a request. Each worker writes a file of its own, because rotation is per process.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler
from pathlib import Path
from queue import SimpleQueue
from typing import TextIO, assert_never

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from ollama_router_core.access.redaction import redact
from ollama_router_core.config.settings import Logging, parse_size
from ollama_router_core.errors import ConfigError
from ollama_router_server.system import shows_colors

__all__ = ["FILE_NAME", "configure_logging", "set_level"]

FILE_NAME = "ollama-router.log"

_MOST_WAITING = 10_000  # entries
_LEAST_SIZE = 4096  # bytes; a smaller file would be rotated every line
_SECRET_KEYS = frozenset(
    {"api_key", "authorization", "cookie", "credential", "digest", "password", "secret", "token", "x-api-key"}
)


def configure_logging(settings: Logging, *, stream: TextIO, worker: int | None = None) -> Callable[[], None]:
    """Send every logger of the process, structlog's and the standard library's, through one writer.

    Args:
        settings: the config's `logging` section.
        stream: gets every entry, usually standard error; `settings.format` says how.
        worker: index of this process among several; each has a file of its own, `ollama-router.N.log`.

    Returns:
        A function that writes what is queued, closes the files and undoes the set-up.

    Raises:
        ConfigError: the directory cannot be created or written.
    """
    terminal = logging.StreamHandler(stream)
    terminal.setFormatter(_text(stream) if _for_people(settings, stream) else _json())
    handlers: list[logging.Handler] = [terminal]
    if settings.enabled and settings.directory is not None:
        name = FILE_NAME if worker is None else f"ollama-router.{worker}.log"
        file = _open_file(settings, Path(settings.directory), name)
        file.setFormatter(_json())
        handlers.append(file)
    queue: SimpleQueue[logging.LogRecord] = SimpleQueue()
    listener = QueueListener(queue, *handlers)
    close = _install(_Handoff(queue), settings.level, listener, handlers)
    _configure_structlog()
    return close


def set_level(level: str) -> None:
    """Set the lowest level that is logged, as the setting `logging.level` spells it."""
    logging.root.setLevel("WARNING" if level == "warn" else level.upper())


class _Handoff(QueueHandler):
    """Queue entries unrendered; the base class would render them here.

    The queue is bounded: entries that do not fit are counted, and the count is logged as soon as there is room.
    """

    def __init__(self, queue: SimpleQueue[logging.LogRecord]) -> None:
        super().__init__(queue)
        self._waiting = queue.qsize
        self._left_out = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        if self._waiting() >= _MOST_WAITING:
            self._left_out += 1
            return
        if self._left_out:
            count, self._left_out = self._left_out, 0
            text = f"log_entries_left_out: {count}"
            super().enqueue(logging.LogRecord("logs", logging.WARNING, __file__, 0, text, None, None))
        super().enqueue(record)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record


class _RotatingFile(RotatingFileHandler):
    """Keep `max_files` files, the current one included; with one, rotation truncates it. Readable by the owner only."""

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding=self.encoding, opener=_open_for_owner)

    def doRollover(self) -> None:  # noqa: N802 - the base class's name
        if self.backupCount == 0 and self.stream is not None:
            self.stream.truncate(0)
        else:
            super().doRollover()


def _open_for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _open_file(settings: Logging, directory: Path, name: str) -> RotatingFileHandler:
    size = max(_LEAST_SIZE, parse_size(settings.max_size))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return _RotatingFile(directory / name, maxBytes=size, backupCount=settings.max_files - 1, encoding="ascii")
    except OSError as error:
        raise ConfigError(f"logging.directory: cannot write to {directory}: {error.strerror}") from error


def _install(
    handoff: logging.Handler, level: str, listener: QueueListener, handlers: list[logging.Handler]
) -> Callable[[], None]:
    root = logging.root
    access = root.manager.getLogger("uvicorn.access")
    lifecycle = root.manager.getLogger("uvicorn.error")
    before = root.level, access.disabled, lifecycle.level
    root.addHandler(handoff)
    set_level(level)
    access.disabled = True  # its lines contain query strings
    lifecycle.setLevel(logging.WARNING)  # the router reports its own start and end
    root.manager.getLogger("alembic").setLevel("WARNING")  # the router reports migrations itself
    listener.start()

    def close() -> None:
        root.removeHandler(handoff)
        root.setLevel(before[0])
        access.disabled = before[1]
        lifecycle.setLevel(before[2])
        listener.stop()
        for handler in handlers:
            handler.close()
        structlog.reset_defaults()

    return close


def _configure_structlog() -> None:
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.processors.format_exc_info,  # here: the writer's thread cannot see the exception
            ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def _for_people(settings: Logging, stream: TextIO) -> bool:
    match settings.format:
        case "auto":
            return stream.isatty()
        case "text":
            return True
        case "json":
            return False
        case never:
            assert_never(never)


def _json() -> logging.Formatter:
    return _formatter(_stamp, _mask_keys, ProcessorFormatter.remove_processors_meta, _render_json)


def _text(stream: TextIO) -> logging.Formatter:
    """Format one line per entry: time, level, event, logger, values; cleaned first, as colours would hide a secret."""
    console = structlog.dev.ConsoleRenderer(
        colors=shows_colors(stream), pad_event_to=20, exception_formatter=structlog.dev.plain_traceback
    )
    return _formatter(_time_of_day, _mask_keys, ProcessorFormatter.remove_processors_meta, _clean_values, console)


def _formatter(*processors: Processor) -> logging.Formatter:
    return ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.add_log_level],
        processors=[structlog.processors.format_exc_info, *processors],
    )


def _stamp(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    """Add the time of the call, which differs from the time of writing."""
    created = datetime.fromtimestamp(entry["_record"].created, UTC)
    entry["timestamp"] = created.isoformat(timespec="milliseconds")
    return entry


def _time_of_day(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    created = datetime.fromtimestamp(entry["_record"].created, UTC)
    entry["timestamp"] = created.astimezone().strftime("%H:%M:%S")
    return entry


def _clean_values(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    """Mask secrets, and replace what could move a terminal's cursor."""
    for key, value in entry.items():
        if not isinstance(value, int | float | None):
            text = "".join(char if char.isprintable() or char == "\n" else "?" for char in redact(str(value)))
            entry[key] = text if key == "exception" else text.replace("\n", " ")
    return entry


def _mask_keys(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    for key in entry:
        if key.lower() in _SECRET_KEYS:
            entry[key] = "***"
    return entry


_to_json = structlog.processors.JSONRenderer(sort_keys=True)


def _render_json(logger: WrappedLogger, method: str, entry: EventDict) -> str:
    return redact(str(_to_json(logger, method, entry)))
