"""What `orouter serve` costs before it does anything."""

from __future__ import annotations

import json
import subprocess
import sys

SERVE = """
import gc, json, sys
import typer
from ollama_router_cli.main import app
group = typer.main.get_command(app)
group.get_command(None, "serve")
print(json.dumps([sorted(sys.modules), gc.isenabled()]))
"""

USERS = """
import json, sys
import typer
from ollama_router_cli.main import app
typer.main.get_command(app).get_command(None, "users")
print(json.dumps(sorted(sys.modules)))
"""

NEEDED_ELSEWHERE = {
    "alembic",
    "opentelemetry",
    "psycopg",
    "redis",
    "ollama_router_core.simulation",
    "asyncpg",
    "textual",
}


def test_serve_imports_only_what_it_needs_and_collects_garbage_afterwards() -> None:
    """Migrations, traces, PostgreSQL, Redis and the simulation are imported where they are used."""
    run = subprocess.run([sys.executable, "-c", SERVE], capture_output=True, text=True, check=True, timeout=60)
    modules, collects = json.loads(run.stdout)
    assert NEEDED_ELSEWHERE.isdisjoint(modules)
    assert "ollama_router_server.process.serve" in modules
    assert collects


def test_commands_that_ask_no_router_import_no_client_and_no_server() -> None:
    """`users list` is a question to the database: httpx and uvicorn take a quarter of the time of a start."""
    run = subprocess.run([sys.executable, "-c", USERS], capture_output=True, text=True, check=True, timeout=60)
    modules = json.loads(run.stdout)
    assert {"httpx", "uvicorn", "ollama_router_server.process.shim"}.isdisjoint(modules)
    assert "ollama_router_server.storage.user_store" in modules
