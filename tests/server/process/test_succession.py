"""A router that is started anew beside itself: nobody is refused, and no answer is cut."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from ollama_router_core.config.client_settings import Limits
from ollama_router_core.testing import Drip, SimulatorThread
from ollama_router_server.process.installation import Installation
from ollama_router_server.process.serve import seconds_to_stop
from ollama_router_server.process.succession import Succession, Successor, start_patience, start_successor
from ollama_router_server.storage.copying import copy_database
from ollama_router_server.storage.database import Database
from support.asking import CHAT, MODEL, PATIENCE, Asker, stream
from support.orouter import Orouter
from support.postgresql import find_binaries, running_cluster
from support.router import users_in
from support.waiting import wait_until
from support.workers import ServedRouter, served


def entry(simulator: SimulatorThread) -> dict[str, Any]:
    """A server of the config, with room for all."""
    return {"host": "127.0.0.1", "port": simulator.port, "num_parallel": 64}


def children(pid: int) -> list[int]:
    """Processes that a process started and that still run."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [int(child) for child in found]


def is_gone(pid: int) -> bool:
    """Whether a process has ended, or only waits for its parent to notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


class Line:
    """The router that is in charge, those before it, and successors that failed."""

    def __init__(self, router: ServedRouter) -> None:
        self.router = router

    @property
    def pids(self) -> list[int]:
        """All of them, in order; the log tells them."""
        started = [row["pid"] for row in self.router.log() if row["event"] == "successor_starts"]
        return [self.router.running.process.pid, *started]

    def restart(self, by: signal.Signals = signal.SIGUSR2) -> None:
        """Start a successor by a signal, and wait until the present one accepts nothing any more."""
        known = self.pids
        os.kill([pid for pid in known if not is_gone(pid)][-1], by)
        self.takes_over(len(known))

    def takes_over(self, number: int) -> None:
        """Wait until the one with a number has been started, and nobody else accepts anything."""
        wait_until(lambda: len(self.pids) > number, "a successor starts", seconds=PATIENCE)
        successor, others = self.pids[number], [pid for pid in self.pids[:number] if not is_gone(pid)]
        inode = listening_inode(int(self.router.url.rpartition(":")[2]))

        def alone() -> bool:
            known = {successor, *others}
            theirs = [*others, *(child for pid in others for child in children(pid) if child not in known)]
            return not any(holds(pid, inode) for pid in theirs)

        wait_until(alone, "its predecessors close their socket", seconds=PATIENCE)


def listening_inode(port: int) -> str:
    """The socket that listens on a port."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    (found,) = {row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
    return f"socket:[{found}]"


def holds(pid: int, link: str) -> bool:
    """Whether a process has a socket open."""
    with suppress(OSError):
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if str(file.readlink()) == link:
                    return True
    return False


class Installed:
    """A package beside the router's, of which another version can be installed."""

    def __init__(self, folder: Path) -> None:
        self._metadata = folder / "site" / "something-1.dist-info"
        self._metadata.mkdir(parents=True)
        self.variables = {"PYTHONPATH": str(self._metadata.parent)}

    def upgrade(self) -> None:
        """As installers do: the metadata are another folder."""
        self._metadata = self._metadata.rename(self._metadata.with_name(f"{self._metadata.name}.newer.dist-info"))

    @contextmanager
    def starts_slowly(self) -> Iterator[None]:
        """What is started in the block runs no line of the router's before its end."""
        held = self._metadata.with_name("held")
        held.touch()
        waits = f"import os, time\nwhile os.path.exists({str(held)!r}):\n    time.sleep(0.02)\n"
        held.with_name("sitecustomize.py").write_text(waits)
        try:
            yield
        finally:
            held.unlink()


@contextmanager
def line_of_routers(folder: Path, simulator: SimulatorThread, *arguments: str, **config: Any) -> Iterator[Line]:
    """A router whose successors are ended, too."""
    with served(folder, {"a": entry(simulator)}, *arguments, **config) as router:
        line = Line(router)
        try:
            yield line
        finally:
            for pid in line.pids[1:]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            for pid in line.pids[1:]:
                wait_until(lambda pid=pid: is_gone(pid), "every successor has ended", seconds=PATIENCE)


@contextmanager
def database_with_users(folder: Path, engine: str) -> Iterator[str]:
    """The URL of a database with alice and root: the file that `served` makes, or a PostgreSQL with a copy of it."""
    file = f"sqlite:///{folder}/router.sqlite3"
    if engine == "sqlite":
        yield file
        return
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed")
    with running_cluster(binaries) as cluster:

        async def fill() -> None:
            await users_in(folder)
            await copy_database(file, cluster.url, report=lambda *_: None)

        asyncio.run(fill())
        yield cluster.url


def rows_in(url: str) -> int:
    """How many requests for an answer the log has."""

    async def count() -> int:
        database = Database(url)
        counting = text("SELECT count(*) FROM request_log WHERE path = '/api/chat' AND status = 200")
        try:
            return await database.read(lambda connection: int(connection.execute(counting).scalar_one()))
        finally:
            await database.aclose()

    return asyncio.run(count())


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("workers", "engine"), [("1", "sqlite"), ("2", "postgresql")])
def test_three_restarts_lose_no_request_and_no_stream(tmp_path: Path, workers: str, engine: str) -> None:
    """160 requests, half of them on connections that are kept, 40 streams that outlast the restarts, all rows: 0 lost.

    By SIGUSR2, and by SIGHUP, as `systemctl reload` sends it, once a new version is there.
    """
    installed = Installed(tmp_path)
    with (
        SimulatorThread(models=[MODEL], num_parallel=64) as simulator,
        database_with_users(tmp_path, engine) as database,
    ):
        variables = {**installed.variables, "OROUTER_DATABASE_URL": database}
        restarts_over = threading.Event()
        pace = Drip(seconds=lambda: 0.0 if restarts_over.is_set() else 2.0, size=16)
        simulator.simulator.faults.add([pace], path="/api/chat", times=40)
        patient = {"probe_timeout": PATIENCE, "limits": {"shutdown_grace": 3 * PATIENCE}}
        with (
            line_of_routers(tmp_path, simulator, "--workers", workers, variables=variables, **patient) as line,
            ThreadPoolExecutor(48) as pool,
        ):
            router = line.router
            streams = [pool.submit(stream, router) for _ in range(40)]
            try:
                wait_until(lambda: simulator.simulator.in_flight == 40, "40 streams are under way", seconds=PATIENCE)
                asking = [pool.submit(Asker(router, restarts_over, keeps=number % 2 == 0)) for number in range(8)]
                line.restart(signal.SIGUSR2)
                for _ in range(2):
                    installed.upgrade()
                    line.restart(signal.SIGHUP)
            finally:
                restarts_over.set()
            statuses = Counter(status for one in asking for status in one.result(timeout=PATIENCE))
            assert set(statuses) == {200}
            assert statuses[200] >= 160
            assert [one.result(timeout=PATIENCE) for one in streams] == [True] * 40
            assert len(line.pids) == 4
            wait_until(lambda: router.running.process.poll() == 0, "the first has ended in order", seconds=PATIENCE)
        assert rows_in(database) == statuses[200] + 40


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_reload_without_a_new_version_starts_nothing(tmp_path: Path, workers: str) -> None:
    """Also in a successor, which is the new version: the config is read in place."""
    installed = Installed(tmp_path)
    with (
        SimulatorThread(models=[MODEL]) as simulator,
        line_of_routers(tmp_path, simulator, "--workers", workers, variables=installed.variables) as line,
    ):
        installed.upgrade()
        line.restart(signal.SIGHUP)
        before = set(children(line.pids[-1]))
        os.kill(line.pids[-1], signal.SIGHUP)
        wait_until(lambda: events(line.router)["config_reloaded"] == 1, "the config is read", seconds=PATIENCE)
        assert events(line.router)["successor_starts"] == 1
        assert set(children(line.pids[-1])) == before


@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_is_installed_while_a_successor_starts_is_taken_up_by_one_more(tmp_path: Path, workers: str) -> None:
    """Three reloads meanwhile are one. It is the newest: another reload only reads the config."""
    installed = Installed(tmp_path)
    with (
        SimulatorThread(models=[MODEL]) as simulator,
        line_of_routers(tmp_path, simulator, "--workers", workers, variables=installed.variables) as line,
    ):
        installed.upgrade()
        with installed.starts_slowly():
            os.kill(line.pids[0], signal.SIGHUP)
            wait_until(lambda: len(line.pids) == 2, "a successor starts", seconds=PATIENCE)
            installed.upgrade()
            for count in range(1, 4):
                os.kill(line.pids[0], signal.SIGHUP)
                wait_until(
                    lambda count=count: events(line.router)["signal_kept"] == count, "it is kept", seconds=PATIENCE
                )
        line.takes_over(2)
        os.kill(line.pids[2], signal.SIGHUP)
        wait_until(lambda: events(line.router)["config_reloaded"] >= 1, "the config is read", seconds=PATIENCE)
        assert events(line.router)["successor_starts"] == 2


@pytest.mark.timeout(900)
def test_a_reload_is_not_lost_with_a_successor_that_fails(tmp_path: Path) -> None:
    """What was asked for while it started is tried once more by the router that goes on."""
    installed = Installed(tmp_path)
    with (
        SimulatorThread(models=[MODEL]) as simulator,
        line_of_routers(tmp_path, simulator, variables=installed.variables) as line,
    ):
        line.router.orouter.config.write_text("servers: {a: {host: }}\n")
        installed.upgrade()
        with installed.starts_slowly():
            os.kill(line.pids[0], signal.SIGHUP)
            wait_until(lambda: len(line.pids) == 2, "a successor starts", seconds=PATIENCE)
            os.kill(line.pids[0], signal.SIGHUP)
            wait_until(lambda: events(line.router)["signal_kept"] == 1, "it is kept", seconds=PATIENCE)
        wait_until(lambda: events(line.router)["successor_failed"] == 2, "both fail", seconds=PATIENCE)
        assert events(line.router)["successor_starts"] == 2
        wait_until(lambda: line.router.admin("/router/status").json()["config_problem"], "it is told", seconds=PATIENCE)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_who_stops_a_router_stops_the_successor_that_starts(tmp_path: Path, workers: str) -> None:
    """Nobody goes on in its place, and the log tells of no failure."""
    installed = Installed(tmp_path)
    with (
        SimulatorThread(models=[MODEL]) as simulator,
        line_of_routers(tmp_path, simulator, "--workers", workers, variables=installed.variables) as line,
    ):
        installed.upgrade()
        with installed.starts_slowly():
            os.kill(line.pids[0], signal.SIGHUP)
            wait_until(lambda: len(line.pids) == 2, "a successor starts", seconds=PATIENCE)
            os.kill(line.pids[0], signal.SIGTERM)
            wait_until(lambda: is_gone(line.pids[1]), "the successor ends", seconds=PATIENCE)
        wait_until(lambda: line.router.running.process.poll() == 0, "the router ends in order", seconds=PATIENCE)
        assert events(line.router)["successor_failed"] == 0


def events(router: ServedRouter) -> Counter[str]:
    """How often the log tells each thing."""
    return Counter(row["event"] for row in router.log())


def test_a_stop_while_a_successor_is_being_started_stops_it_too() -> None:
    """The signal comes before there is one to stop."""
    read, write = os.pipe()
    process = SimpleNamespace(pid=1, terminate=lambda: ended.append(1))
    stops: list[int] = []
    ended: list[int] = []

    def start() -> Successor:
        stops.append(1)
        succession.stop()
        return Successor(process, read, Installation())

    succession = Succession(start=start, succeeded=lambda _: None, in_place=lambda: None, is_ending=lambda: bool(stops))
    succession.take_up(signal.SIGUSR2)
    os.close(read)
    os.close(write)
    assert ended == [1]


@pytest.mark.parametrize("variable", ["OROUTER_READY_FD", "LISTEN_FDS"])
def test_a_start_for_which_clients_wait_is_more_patient_with_servers(variable: str) -> None:
    """It would refuse what its predecessor, which serves meanwhile, does not, or what can wait in the socket."""
    assert start_patience({variable: "5"}) > start_patience({})


def test_a_container_s_first_process_has_no_successor(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would end with its predecessor, and every stream with it."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with socket.socket() as sock, pytest.raises(OSError, match="container"):
        start_successor(sock, {})


def test_a_successor_that_cannot_start_changes_nothing(tmp_path: Path) -> None:
    """A config with a problem: it says so and ends, and the router goes on and tells why; the next one succeeds."""
    with SimulatorThread(models=[MODEL]) as simulator, line_of_routers(tmp_path, simulator) as line:
        router, config = line.router, line.router.orouter.config
        good = config.read_text()
        config.write_text("servers: {a: {host: }}\n")
        os.kill(line.pids[0], signal.SIGUSR2)
        wait_until(
            lambda: any(row["event"] == "successor_failed" for row in router.log()), "it fails", seconds=PATIENCE
        )
        wait_until(lambda: router.admin("/router/status").json()["config_problem"], "it is told", seconds=PATIENCE)
        with router.client() as client:
            assert client.post("/api/chat", json=CHAT).status_code == 200
        config.write_text(good)
        line.restart()
        with router.client() as client:
            assert client.post("/api/chat", json=CHAT).status_code == 200


def test_a_supervisor_waits_for_its_lame_ducks() -> None:
    """And then as long for their streams as the config says: a worker that is killed tells nobody why."""
    limits = Limits(lame_duck=30, shutdown_grace=1)
    assert seconds_to_stop(limits) >= limits.lame_duck + seconds_to_stop(Limits(shutdown_grace=1))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_lame_duck_still_answers(tmp_path: Path, workers: str) -> None:
    """After SIGTERM `/readyz` is 503, requests on new and kept connections are answered, with `Connection: close`."""
    with (
        SimulatorThread(models=[MODEL]) as simulator,
        served(
            tmp_path,
            {"a": {"host": "127.0.0.1", "port": simulator.port}},
            "--workers",
            workers,
            limits={"lame_duck": 30.0, "shutdown_grace": 1},
        ) as router,
        router.client() as kept,
    ):
        assert kept.post("/api/chat", json=CHAT).status_code == 200
        router.running.process.send_signal(signal.SIGTERM)
        wait_until(lambda: router.admin("/readyz").status_code == 503, "it is no longer ready")

        def ends() -> bool:
            return "connection" in kept.post("/api/chat", json=CHAT).headers

        wait_until(lambda: all(ends() for _ in range(8)), "connections are to end at every worker")
        answers = [kept.post("/api/chat", json=CHAT), kept.post("/api/chat", json=CHAT)]
        assert [(one.status_code, one.headers["connection"]) for one in answers] == [(200, "close")] * 2
        router.running.process.send_signal(signal.SIGTERM)  # asked twice: at once
        router.running.process.wait(timeout=60)


def test_a_socket_of_the_service_manager_is_served(tmp_path: Path) -> None:
    """`LISTEN_FDS`: the connections that came before the router did are answered by it."""
    orouter = Orouter(home=tmp_path)
    orouter.config.write_text(json.dumps({"servers": {"a": {"host": "127.0.0.1", "port": 1}}}))
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        code = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True);"
            "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()));"
            "os.execv(sys.executable, [sys.executable, '-m', 'ollama_router_cli', 'serve'])"
        )
        with (
            (tmp_path / "err").open("wb") as errors,
            ThreadPoolExecutor(1) as pool,
            subprocess.Popen(
                [sys.executable, "-c", code, str(sock.fileno())],
                pass_fds=(sock.fileno(),),
                cwd=tmp_path,
                env=orouter.environment(),
                stdout=errors,
                stderr=errors,
            ) as process,
        ):
            early = pool.submit(httpx.get, f"http://127.0.0.1:{port}/livez", timeout=60, trust_env=False)
            try:
                assert early.result(timeout=60).status_code == 200
            finally:
                process.terminate()
                process.wait(60)
