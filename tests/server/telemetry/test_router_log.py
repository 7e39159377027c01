"""The router's own log: text on a terminal, JSON lines elsewhere, rotated, without secrets."""

from __future__ import annotations

import io
import json
import logging
import re
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from ollama_router_core.config.settings import Logging
from ollama_router_core.errors import ConfigError
from ollama_router_server.telemetry import router_log
from ollama_router_server.telemetry.router_log import FILE_NAME, configure_logging
from support.identities import seeded_token
from support.waiting import wait_until

log = structlog.get_logger("router.test")

Start = Callable[..., Callable[[], None]]


@pytest.fixture
def stream() -> io.StringIO:
    """Standard error."""
    return io.StringIO()


@pytest.fixture
def start(stream: io.StringIO) -> Iterator[Start]:
    """Sets logging up, and takes it down even if a test fails."""
    running: list[Callable[[], None]] = []

    def configure(**settings: Any) -> Callable[[], None]:
        close = configure_logging(Logging(**settings), stream=stream)
        running.append(close)

        def finish() -> None:
            running.remove(close)
            close()

        return finish

    yield configure
    for close in running:
        close()


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def lines(text: str) -> list[dict[str, Any]]:
    """Each line, parsed."""
    return [json.loads(line) for line in text.splitlines()]


def test_entries_are_json_lines_on_the_stream_and_in_the_file(
    start: Start, stream: io.StringIO, tmp_path: Path
) -> None:
    """Event, level, logger, time and whatever was given; umlauts survive."""
    finish = start(directory=str(tmp_path / "new" / "logs"))
    log.info("server_up", server="größer", models=3)
    finish()
    (entry,) = lines(stream.getvalue())
    assert entry.pop("timestamp").endswith("+00:00")
    assert entry == {
        "event": "server_up", "level": "info", "logger": "router.test", "models": 3, "server": "größer",
    }  # fmt: skip
    assert (tmp_path / "new" / "logs" / FILE_NAME).read_text(encoding="utf-8") == stream.getvalue()


def test_other_libraries_lines_look_the_same(start: Start, stream: io.StringIO) -> None:
    """Uvicorn and its like log through the standard library."""
    finish = start()
    logging.getLogger("uvicorn.error").warning("closed %s", "early")
    finish()
    (entry,) = lines(stream.getvalue())
    assert (entry["event"], entry["level"], entry["logger"]) == ("closed early", "warning", "uvicorn.error")


def test_access_lines_are_off(start: Start, stream: io.StringIO) -> None:
    """They hold query strings, and the request log has all the rest."""
    finish = start()
    logging.getLogger("uvicorn.access").info('"GET /api/tags?token=canary HTTP/1.1" 200')
    finish()
    assert stream.getvalue() == ""


def test_exceptions_are_one_line_with_their_traceback(start: Start, stream: io.StringIO) -> None:
    """From structlog and from the standard library alike."""
    finish = start()
    try:
        int("broken")
    except ValueError:
        log.exception("failed")
        logging.getLogger("other").exception("failed")
    finish()
    entries = lines(stream.getvalue())
    assert len(entries) == 2
    assert all("ValueError: invalid" in entry["exception"] for entry in entries)


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warn", ["warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_levels(start: Start, stream: io.StringIO, level: str, expected: list[str]) -> None:
    """Below the configured level nothing is written."""
    finish = start(level=level)
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("event")
    finish()
    assert [entry["level"] for entry in lines(stream.getvalue())] == expected


@pytest.mark.parametrize("max_files", [1, 2, 4])
def test_files_are_rotated_by_size_and_number(start: Start, tmp_path: Path, max_files: int) -> None:
    """Never more files than told, none larger than told, and the newest lines are kept."""
    finish = start(directory=str(tmp_path), max_size="8KB", max_files=max_files)
    for number in range(400):
        log.info("line", number=number, padding="x" * 50)
    finish()
    files = list(tmp_path.iterdir())
    assert len(files) == max_files
    assert all(0 < file.stat().st_size <= 8192 for file in files)
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    kept = sorted(entry["number"] for file in files for entry in lines(file.read_text(encoding="ascii")))
    assert kept == list(range(kept[0], 400))


def test_a_new_start_appends(start: Start, tmp_path: Path) -> None:
    """A restart does not wipe what explains why it was needed."""
    for _ in range(2):
        finish = start(directory=str(tmp_path))
        log.info("start")
        finish()
    assert len(lines((tmp_path / FILE_NAME).read_text(encoding="ascii"))) == 2


@pytest.mark.parametrize("settings", [{"enabled": False}, {}])
def test_no_files_unless_asked_for(
    start: Start, stream: io.StringIO, tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Switched off, or without a directory: standard error alone."""
    monkeypatch.chdir(tmp_path)
    directory = {"directory": "logs"} if settings else {}
    finish = start(**settings, **directory)
    log.info("event")
    finish()
    assert len(lines(stream.getvalue())) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_made(start: Start, tmp_path: Path) -> None:
    """The setting is named."""
    (tmp_path / "file").write_text("", encoding="ascii")
    with pytest.raises(ConfigError, match=r"logging\.directory: cannot write to .*file"):
        start(directory=str(tmp_path / "file" / "logs"))


def test_taking_it_down_leaves_logging_as_it_was(start: Start) -> None:
    """Handlers, levels, the access logger."""
    access = logging.getLogger("uvicorn.access")
    before = logging.root.level, list(logging.root.handlers), access.disabled
    start(level="debug")()
    assert (logging.root.level, list(logging.root.handlers), access.disabled) == before


def test_canaries_reach_no_line(start: Start, stream: io.StringIO, tmp_path: Path) -> None:
    """A token, a provider key, a password: by key, inside a text, nested, in an exception."""
    canary = seeded_token(7).reveal()
    finish = start(directory=str(tmp_path), level="debug")
    log.info("by_key", token=canary, Authorization="short", api_key="short")
    event = f"in text {canary}"
    log.info(event, nested={"headers": [f"Bearer {canary[:31]}"]}, object=seeded_token(7))
    log.info("key", key="sk-proj-canarycanarycanary", url="postgresql://router:canarypw@host/db")
    logging.getLogger("httpx").info("GET %s", f"http://host/?key={canary}")
    try:
        int(f"Authorization: Bearer {canary}")
    except ValueError:
        log.exception("failed")
    finish()
    written = stream.getvalue() + (tmp_path / FILE_NAME).read_text(encoding="ascii")
    assert len(lines(written)) == 10
    for secret in (canary, canary[:31], "canary", "short"):
        assert secret not in written


def written(settings: Logging, stream: io.StringIO) -> str:
    """What one entry with a few values looks like on a stream."""
    close = configure_logging(settings, stream=stream)
    log.info("server_up", server="größer", models=3)
    close()
    return stream.getvalue()


def test_a_terminal_gets_one_line_of_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time of day, level, event and values, without JSON."""
    monkeypatch.setenv("NO_COLOR", "1")
    text = written(Logging(), Terminal())
    assert re.fullmatch(r"\d\d:\d\d:\d\d \[info *\] server_up +\[router.test\] models=3 server=größer\n", text)


@pytest.mark.parametrize(
    ("stream", "format_", "is_json"),
    [
        (io.StringIO, "auto", True),
        (io.StringIO, "text", False),
        (Terminal, "auto", False),
        (Terminal, "json", True),
    ],
)
def test_the_format_follows_the_stream_unless_it_is_set(stream: type[io.StringIO], format_: Any, is_json: bool) -> None:
    """`logging.format` forces either."""
    assert written(Logging(format=format_), stream()).startswith("{") is is_json


def test_files_are_json_whatever_the_terminal_shows(tmp_path: Path) -> None:
    """Programs read files."""
    written(Logging(directory=str(tmp_path)), Terminal())
    (entry,) = lines((tmp_path / FILE_NAME).read_text(encoding="utf-8"))
    assert entry["event"] == "server_up"


@pytest.mark.parametrize(("variables", "colored"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colors_are_for_terminals_that_want_them(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], colored: bool
) -> None:
    """NO_COLOR is respected; another stream never gets colours."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert ("\x1b" in written(Logging(), Terminal())) is colored
    assert "\x1b" not in written(Logging(format="text"), io.StringIO())


def test_text_masks_secrets_and_cannot_move_the_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    """What servers and clients write is shown, but not obeyed; colours hide no token from the mask."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    token, stream = seeded_token(1), Terminal()
    close = configure_logging(Logging(), stream=stream)
    log.warning("server_down", error=f"said {token.reveal()}\x1b[2J\nand more", token="anything")
    log.error("failed", exc_info=ValueError(token.reveal()))
    close()
    text = stream.getvalue()
    assert token.reveal() not in text
    assert "anything" not in text
    assert "\x1b[2J" not in text
    assert "ValueError: ***" in text


class StuckStream(io.StringIO):
    """A disk that takes nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.stuck = threading.Event()
        self.go_on = threading.Event()

    def write(self, text: str) -> int:
        """Wait first."""
        self.stuck.set()
        assert self.go_on.wait(20.0)
        return super().write(text)


def test_what_a_stuck_disk_cannot_take_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue is bounded; the count is told as soon as there is room."""
    monkeypatch.setattr(router_log, "_MOST_WAITING", 10)
    stream = StuckStream()
    close = configure_logging(Logging(), stream=stream)
    log.info("first")
    assert stream.stuck.wait(20.0)
    for number in range(1_000):
        log.info("entry", number=number)
    stream.go_on.set()

    def told() -> bool:
        log.info("again")
        return "left_out" in stream.getvalue()

    wait_until(told, "the count of what was left out")
    close()
    counts = re.findall(r"log_entries_left_out: (\d+)", stream.getvalue())
    assert sum(map(int, counts)) >= 990
    assert stream.getvalue().count('"entry"') == 10
