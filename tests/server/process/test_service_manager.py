"""What a service manager sees: readiness, reloads, signs of life, and no secret in its journal."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from ollama_router_core.access.tokens import Token, check_format
from ollama_router_core.config import load_config
from ollama_router_server.accounts.first_admin import FILE_NAME, LINK_NAME, can_hand_over, hand_over
from ollama_router_server.process.notify import Notifier
from ollama_router_server.process.serve import _prepare
from ollama_router_server.process.workers import Supervisor, _Child
from ollama_router_server.services import Services
from ollama_router_server.storage.identities import CreatedToken
from support.orouter import Orouter
from support.waiting import wait_until
from support.workers import served

SERVERS = {"a": {"host": "127.0.0.1", "port": 1}}


@contextmanager
def manager(folder: Path) -> Iterator[tuple[dict[str, str], _Told]]:
    """The variables that systemd sets, and what it was told so far, each time it is looked at."""
    path = folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.settimeout(0)
        told = _Told(sock)
        yield {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "300000"}, told


class _Told(list[str]):
    """Reads what has come whenever somebody looks."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._sock = sock

    def look(self) -> list[str]:
        """All lines so far."""
        while True:
            try:
                self.extend(self._sock.recv(4096).decode().splitlines())
            except BlockingIOError:
                return list(self)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_systemd_is_told_what_happens(tmp_path, workers):
    """Ready once every worker accepts; reloading and ready again; signs of life; stopping."""
    with manager(tmp_path) as (variables, told):
        with served(tmp_path, SERVERS, "--workers", workers, variables=variables) as router:
            wait_until(lambda: told.look().count("READY=1") == 1, "ready")
            assert router.admin("/livez").status_code == 200
            os.kill(router.running.process.pid, signal.SIGHUP)
            wait_until(lambda: told.look().count("READY=1") == 2, "ready again")
            assert told.index("RELOADING=1") > told.index("READY=1")
            assert any(line.startswith("MONOTONIC_USEC=") for line in told)
            signs = told.count("WATCHDOG=1")
            wait_until(lambda: told.look().count("WATCHDOG=1") >= signs + 2, "signs of life")
        assert "STOPPING=1" in told.look()


def test_without_a_service_manager_nobody_is_told():
    """No socket, no watchdog; a socket that is gone is no error."""
    Notifier({}).ready()
    Notifier({"NOTIFY_SOCKET": "/nowhere/at/all"}).ready()
    assert Notifier({"WATCHDOG_USEC": "1000000"}).watchdog is None
    assert Notifier({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "30000000"}).watchdog == 10.0


class _Unheard:
    """A service that does nothing when it is told."""

    def open_log(self):
        return lambda: None

    def accepting(self):
        pass

    reloading = stopping = alive = accepting

    def successor(self):
        raise OSError

    def succeeded(self, successor):
        pass


def test_a_worker_that_hangs_is_killed():
    """Half a minute without a sign of life is enough; `test_workers` shows that a dead one is started again."""
    supervisor = Supervisor(1, _Unheard(), grace=1.0)
    with subprocess.Popen(["sleep", "60"]) as process:
        supervisor._children[process.pid] = _Child(index=0, started=0.0, ready=-1, accepts=True)
        worker = supervisor._memory.member(0)
        asyncio.run(worker.beat(time.monotonic() - 29))
        supervisor._kill_hung()
        assert process.poll() is None
        asyncio.run(worker.beat(time.monotonic() - 32))
        supervisor._kill_hung()
        assert process.wait(timeout=10) == -signal.SIGKILL
    supervisor._children.clear()
    supervisor._release()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_first_admin_s_token_goes_into_a_file_of_the_service(tmp_path, workers):
    """Readable by the service alone, and nowhere in what the journal keeps."""
    state = tmp_path / "state"
    state.mkdir()
    orouter = Orouter(home=tmp_path, variables={"STATE_DIRECTORY": str(state)})
    orouter.config.write_text("servers: {a: {host: 127.0.0.1, port: 1}}\n")
    with orouter.start("serve", "--port", "0", "--workers", workers) as running:
        url = running.listening_url()
        token = (state / FILE_NAME).read_text().strip()
        assert stat.S_IMODE((state / FILE_NAME).stat().st_mode) == 0o600
        headers = {"authorization": f"Bearer {token}"}
        assert httpx.get(f"{url}/router/status", headers=headers, trust_env=False).status_code == 200
        assert token not in running.errors.read_text()
        assert str(state / FILE_NAME) in running.errors.read_text()


def test_the_first_admin_s_link_signs_in_once(tmp_path):
    """It is in a file of the service, for nobody else to read, and in no log; a second opening is refused."""
    state = tmp_path / "state"
    state.mkdir()
    orouter = Orouter(home=tmp_path, variables={"STATE_DIRECTORY": str(state)})
    orouter.config.write_text("servers: {a: {host: 127.0.0.1, port: 1}}\n")
    with orouter.start("serve", "--port", "0") as running:
        url = running.listening_url()
        assert stat.S_IMODE((state / LINK_NAME).stat().st_mode) == 0o600
        page, claim = (state / LINK_NAME).read_text().strip().split("#claim=")
        assert page == f"{url}/console/"
        assert claim not in running.errors.read_text()
        opened = [
            httpx.post(f"{page}claim", json={"claim": claim}, headers={"x-console": "1"}, trust_env=False)
            for _ in range(2)
        ]
        assert [answer.status_code for answer in opened] == [200, 401]
        assert opened[0].json() == {"user": "admin", "role": "admin"}


def test_of_routers_that_start_at_once_one_makes_the_first_admin(tmp_path, monkeypatch):
    """The others had found nobody, too, and start all the same; there is one token, of who made it."""
    environment = {"OROUTER_DATABASE_URL": f"sqlite:///{tmp_path}/router.sqlite3", "STATE_DIRECTORY": str(tmp_path)}

    async def nobody() -> bool:
        return False

    async def start() -> list[str]:
        services = Services(load_config("servers: {a: {host: gpu}}"), environment)
        try:
            await services.prepare()
            await services.users.create("admin", role="admin")
            monkeypatch.setattr(services, "prepare", nobody)
            with socket.socket() as sock:
                await _prepare(services, environment, sock)
            return [user.name for user in await services.users.list()]
        finally:
            await services.aclose()

    assert asyncio.run(start()) == ["admin"]
    assert not (tmp_path / FILE_NAME).exists()


def test_the_first_admin_s_token_is_in_no_log_of_a_container(tmp_path):
    """Where standard error is no terminal it is in a file beside the database."""
    folder = tmp_path / "data"
    orouter = Orouter(home=tmp_path, variables={"OROUTER_DATABASE_URL": f"sqlite:///{folder}/router.sqlite3"})
    orouter.config.write_text("servers: {a: {host: 127.0.0.1, port: 1}}\n")
    with orouter.start("serve", "--port", "0") as running:
        url = running.listening_url()
        token = (folder / FILE_NAME).read_text().strip()
        assert stat.S_IMODE((folder / FILE_NAME).stat().st_mode) == 0o600
        headers = {"authorization": f"Bearer {token}"}
        assert httpx.get(f"{url}/router/status", headers=headers, trust_env=False).status_code == 200
        text = running.errors.read_text()
        assert str(folder / FILE_NAME) in text
        assert not [word for word in text.split() if check_format(word)]


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_the_first_admin_s_token_is_printed(tmp_path):
    """Once, with a link into the console, and no file is left behind."""
    terminal = _Terminal()
    created = CreatedToken(user="admin", role="admin", token=Token("secret"))
    assert can_hand_over({}, terminal, tmp_path)
    hand_over(created, "http://127.0.0.1:11434/console/#claim=once", {}, terminal, tmp_path)
    assert terminal.getvalue().count("secret") == 1
    assert terminal.getvalue().count("/console/#claim=once") == 1
    assert not list(tmp_path.iterdir())


def test_no_admin_is_made_where_no_file_can_be_written(tmp_path):
    """Its token would be lost."""
    assert not can_hand_over({}, io.StringIO(), tmp_path / "missing")


def test_no_admin_is_made_where_only_the_journal_would_hear_of_it(tmp_path):
    """Then the log says how to make one."""
    errors = tmp_path / "serve.err"
    errors.touch()
    found = errors.stat()
    orouter = Orouter(home=tmp_path, variables={"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
    orouter.config.write_text("servers: {a: {host: 127.0.0.1, port: 1}}\n")
    with orouter.start("serve", "--port", "0") as running:
        running.listening_url()
        text = running.errors.read_text()
        assert "orouter users create admin --role admin" in text
        assert not [word for word in text.split() if check_format(word)]
        assert orouter.json("users", "list") == []
