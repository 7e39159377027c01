"""A router of several workers is stopped at each stage of its start: it ends in order, and says nothing but that."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.orouter import Orouter
from support.waiting import wait_until

SUPERVISOR = """
import os, signal, sys
from ollama_router_server.process.signals import heed
from ollama_router_server.process.workers import Supervisor

STAGE = sys.argv[1]
told, go = os.pipe(), os.pipe()


def end(_signal, _frame):
    if STAGE == "at the fork":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # another one, while the interpreter ends, is another story
        raise SystemExit(0)
    os.write(told[1], b".")


class Service:
    def open_log(self):
        if STAGE == "when all are forked":
            os.kill(os.getpid(), signal.SIGTERM)
        return lambda: None

    def accepting(self):
        print("accepting", flush=True)
        if STAGE == "when all accept":
            os.kill(os.getpid(), signal.SIGTERM)

    def stopping(self):
        print("stopping", flush=True)

    def successor(self):
        raise OSError

    def alive(self):
        if all(child.accepts for child in supervisor._children.values()):
            os.write(go[1], b"..")


def stop_all_in_child():
    for pid in (os.getppid(), os.getpid()):
        os.kill(pid, signal.SIGTERM)


signal.signal(signal.SIGTERM, end)
if STAGE == "at the fork":
    os.register_at_fork(after_in_child=stop_all_in_child)
supervisor = Supervisor(2, Service(), grace=60)
worker = supervisor.run()
if worker is not None:
    heed()
    if worker.index == 1 and STAGE in ("when one accepts", "when one dies of it"):
        os.kill(os.getppid(), signal.SIGTERM)
        if STAGE == "when one dies of it":
            os._exit(1)
    if STAGE != "when all accept" and (worker.index == 1 or STAGE != "when one accepts"):
        os.read(told[0], 1)
    worker.ready()
    os.read(go[0], 1)
    os._exit(0)
"""


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("at the fork", "stopping"),
        ("when all are forked", "stopping"),
        ("when one accepts", "stopping"),
        ("when one dies of it", "stopping"),
        ("when all accept", "accepting stopping"),
    ],
)
def test_a_supervisor_that_is_stopped_ends_in_order(stage: str, said: str) -> None:
    """Whatever its workers have said by then, or say afterwards: nobody is told that a closed socket accepts."""
    command = [sys.executable, "-c", SUPERVISOR, stage]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, said.split(), "")


def test_a_router_that_is_stopped_as_its_first_worker_begins(tmp_path: Path) -> None:
    """It ends with 0 and without a traceback, and no worker is left."""
    orouter = Orouter(home=tmp_path)
    orouter.config.write_text("servers: {a: {host: 127.0.0.1, port: 1}}\n")
    with orouter.start("serve", "--port", "0", "--workers", "2") as running:
        pid = running.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        wait_until(lambda: children.read_text() != "", "a worker begins")
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(timeout=300) == 0
    said = running.errors.read_text()
    assert "Traceback" not in said
    assert "orouter:" not in said
