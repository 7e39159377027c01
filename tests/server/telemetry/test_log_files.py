"""The request log as JSON lines: every line once, files no longer than asked, none lost when they turn over."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ollama_router_core.config.settings import RequestLogSettings
from ollama_router_core.errors import ConfigError
from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.telemetry.log_files import FILE_NAME, LogFiles, open_log_files
from support.eventually import eventually
from support.records import make_record
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

SIZE = 5_000


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[LogFiles]:
    """Three files of 5,000 bytes at most."""
    files = LogFiles(tmp_path / FILE_NAME, max_size=SIZE, max_files=3, flush_interval=0.01)
    files.start()
    yield files
    await files.aclose()


def numbers(*paths: Path) -> list[int]:
    """The numbers of the records in files, in their order."""
    lines = [line for path in paths for line in path.read_text().splitlines()]
    return [int(json.loads(line)["id"].removeprefix("request-")) for line in lines]


def older_than(path: Path) -> list[Path]:
    """The files that were current before this one, oldest first."""
    return sorted(path.parent.glob(f"{path.name}.*"), key=lambda one: -int(one.suffix[1:]))


def move(source: Path, target: Path) -> None:
    """Rename a folder."""
    source.rename(target)


async def test_a_line_says_what_the_row_says(files: LogFiles, tmp_path: Path) -> None:
    """By the record's own names; nobody else may read it."""
    record = make_record(7, error="größe\n")
    files.write(record)
    await files.aclose()
    path = tmp_path / FILE_NAME
    assert json.loads(path.read_text()) == record.to_json()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("at_once", [1, 7, 500])
async def test_rotation_loses_and_repeats_nothing(tmp_path: Path, at_once: int) -> None:
    """Whatever the batches; no file is longer than asked, and each begins and ends with a whole line."""
    files = LogFiles(tmp_path / FILE_NAME, max_size=SIZE, max_files=100, flush_interval=0.0)
    files.start()
    for start in range(0, 500, at_once):
        for number in range(start, min(500, start + at_once)):
            files.write(make_record(number))
        await asyncio.sleep(0)
    await files.aclose()
    older = older_than(tmp_path / FILE_NAME)
    assert len(older) > 10
    assert numbers(*older, tmp_path / FILE_NAME) == list(range(500))
    assert max(path.stat().st_size for path in older) <= SIZE
    assert files.dropped == 0


@pytest.mark.parametrize("kept", [1, 2, 3])
async def test_so_many_files_are_kept(tmp_path: Path, kept: int) -> None:
    """The newest ones, the current one included."""
    files = LogFiles(tmp_path / FILE_NAME, max_size=SIZE, max_files=kept)
    files.start()
    for number in range(300):
        files.write(make_record(number))
    await files.aclose()
    assert len(older_than(tmp_path / FILE_NAME)) == kept - 1
    assert numbers(tmp_path / FILE_NAME)[-1] == 299


async def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    """What is there stays and counts towards the size."""
    for number in range(2):
        files = LogFiles(tmp_path / FILE_NAME, max_size=SIZE, max_files=3)
        files.start()
        files.write(make_record(number))
        await files.aclose()
    assert numbers(tmp_path / FILE_NAME) == [0, 1]


async def test_a_file_that_was_moved_away_is_made_anew(files: LogFiles, tmp_path: Path) -> None:
    """Whoever takes a file away gets no later lines."""
    files.write(make_record(0))
    await eventually(lambda: (tmp_path / FILE_NAME).stat().st_size > 0)
    (tmp_path / FILE_NAME).rename(tmp_path / "taken")
    files.write(make_record(1))
    await eventually((tmp_path / FILE_NAME).exists)
    await files.aclose()
    assert (numbers(tmp_path / "taken"), numbers(tmp_path / FILE_NAME)) == ([0], [1])


async def test_lines_that_cannot_be_written_are_counted(files: LogFiles, tmp_path: Path) -> None:
    """And when there is a folder again, later ones are written."""
    files.write(make_record(0))
    await eventually(lambda: (tmp_path / FILE_NAME).stat().st_size > 0)
    move(tmp_path, tmp_path.with_name("moved"))
    files.write(make_record(1))
    await eventually(lambda: files.dropped == 1)
    move(tmp_path.with_name("moved"), tmp_path)
    files.write(make_record(2))
    await files.aclose()
    assert numbers(tmp_path / FILE_NAME) == [0, 2]


async def test_a_full_queue_drops_and_counts(tmp_path: Path) -> None:
    """Memory is bounded whatever the disk does."""
    files = LogFiles(tmp_path / FILE_NAME, max_size=SIZE, max_files=3, max_pending=5)
    for number in range(8):
        files.write(make_record(number))
    assert files.dropped == 3
    files.start()
    await files.aclose()
    assert numbers(tmp_path / FILE_NAME) == [0, 1, 2, 3, 4]


def test_a_folder_that_cannot_be_written_is_said_at_the_start(tmp_path: Path) -> None:
    """By the setting's name."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"request_log\.directory"):
        open_log_files(RequestLogSettings(directory=str(tmp_path / "file" / "logs")), worker=None)
    assert open_log_files(RequestLogSettings(), worker=None) is None


_WRITER = """
import asyncio, sys
from pathlib import Path
from ollama_router_server.telemetry.log_files import LogFiles
from support.records import make_record
async def main():
    files = LogFiles(Path(sys.argv[1]), max_size=20_000, max_files=1_000, flush_interval=0.002)
    files.start()
    number = 0
    while True:
        for _ in range(20):
            files.write(make_record(number))
            number += 1
        await asyncio.sleep(0.001)

asyncio.run(main())
"""


async def test_a_killed_process_leaves_whole_lines(tmp_path: Path) -> None:
    """Killed in the midst of rotations: the lines up to some moment are there, each once and whole."""
    path = tmp_path / FILE_NAME
    variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], env=variables)  # noqa: ASYNC220
    try:
        await eventually((tmp_path / f"{FILE_NAME}.8").exists)
    finally:
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait)
    found = numbers(*older_than(path), *([path] if path.exists() else []))
    assert found == list(range(len(found)))


async def test_a_router_writes_them_beside_the_database(tmp_path: Path) -> None:
    """The same rows in both."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(
            tmp_path, {"one": server_entry(sim)}, request_log={"directory": str(tmp_path / "log")}
        ) as router,
        router.client() as alice,
    ):
        for _ in range(3):
            await alice.post("/api/generate", json={"model": "llama3.1:8b", "prompt": "hi", "stream": False})
        rows = await router.rows(3)
    lines = (tmp_path / "log" / FILE_NAME).read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [row.id for row in reversed(rows)]


async def test_lines_lost_are_a_figure_to_be_alarmed_by(tmp_path: Path) -> None:
    """They show neither in `orouter_log_dropped_total` nor in the database."""
    async with (
        running_router(
            tmp_path, {"one": {"host": "127.0.0.1", "port": 9}}, request_log={"directory": str(tmp_path / "log")}
        ) as router,
        router.client(router.admin_token) as admin,
    ):
        assert router.services.log_files is not None
        router.services.log_files.dropped = 2
        figures = (await admin.get("/metrics")).text
    assert "orouter_log_lines_dropped_total 2.0" in figures.splitlines()
    assert "orouter_log_dropped_total 0.0" in figures.splitlines()
