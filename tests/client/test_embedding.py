"""A program that routes from inside keeps its process to itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

_LOOK = """
import asyncio, faulthandler, gc, locale, logging, os, signal, socket, sqlite3, sys, threading, warnings

def look():
    return {
        "collector": (gc.get_threshold(), gc.isenabled(), gc.get_freeze_count()),
        "interpreter": (sys.getswitchinterval(), sys.getrecursionlimit(), sys.excepthook, threading.excepthook),
        "signals": {one: signal.getsignal(one) for one in signal.valid_signals()},
        "faults": faulthandler.is_enabled(),
        "adapters": dict(sqlite3.adapters) if hasattr(sqlite3, "adapters") else {},
        "logging": (list(logging.root.handlers), logging.root.level, logging.getLogger("ollama_router_core").handlers),
        "warnings": list(warnings.filters),
        "loops": type(asyncio.get_event_loop_policy()),
        "environment": dict(os.environ),
        "socket": socket.getdefaulttimeout(),
        "locale": locale.setlocale(locale.LC_ALL),
        "threads": {one.name for one in threading.enumerate()},
        "folder": os.getcwd(),
    }
"""
_LIBRARIES = "import anyio, bcrypt, httpx, msgspec, pydantic, yaml\n"
"""What the core depends on is not what is looked at."""
_SYNC = """
from ollama_router_core import RouterTransport
from ollama_router_core.testing import FakeFleet

fleet = FakeFleet({"a": ["llama3.1:8b"]})
with httpx.Client(transport=RouterTransport(fleet.config, inner=fleet), base_url="http://router") as client:
    body = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hi"}], "stream": False}
    assert client.post("/api/chat", json=body).status_code == 200
"""
_ASYNC = """
from ollama_router_core import AsyncRouterTransport
from ollama_router_core.testing import FakeFleet

async def run():
    fleet = FakeFleet({"a": ["llama3.1:8b"]})
    transport = AsyncRouterTransport(fleet.config, inner=fleet)
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as client:
        assert (await client.get("/api/tags")).status_code == 200

anyio.run(run)
"""
_DECIDING = """
from ollama_router_core import FleetSnapshot, RouteRequest, decide, default_config

decide(RouteRequest(model_text="llama3.1:8b"), FleetSnapshot(), default_config({}), now=0.0)
"""


@pytest.mark.parametrize("program", [_SYNC, _ASYNC, _DECIDING], ids=["sync", "async", "deciding"])
def test_nothing_of_the_process_is_changed(program: str) -> None:
    """No collector settings, signals, adapters, handlers, filters, loops, variables or threads are left behind."""
    script = f"{_LIBRARIES}{_LOOK}\nbefore = look()\n{program}\nafter = look()\n"
    script += "print({key: (before[key], after[key]) for key in before if before[key] != after[key]})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("{}", "")


def test_a_synchronous_program_loads_no_event_loop() -> None:
    """The asynchronous half is imported when it is asked for."""
    script = (
        "import sys\nfrom ollama_router_core import RouterTransport\n"
        "print('asyncio' in sys.modules or 'trio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
