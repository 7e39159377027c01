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

COMMAND = """
import json, sys
import typer
from ollama_router_cli.main import app
typer.main.get_command(app).get_command(None, sys.argv[1])
print(json.dumps(sorted(sys.modules)))
"""

NEEDED_ELSEWHERE = {
    "alembic",
    "jinja2",
    "opentelemetry",
    "psycopg",
    "redis",
    "ollama_router_core.simulation",
    "asyncpg",
    "textual",
}


def test_serve_imports_only_what_it_needs_and_collects_garbage_afterwards() -> None:
    """Migrations, templates, traces, PostgreSQL, Redis and the simulation are imported where they are used."""
    run = subprocess.run([sys.executable, "-c", SERVE], capture_output=True, text=True, check=True, timeout=60)
    modules, collects = json.loads(run.stdout)
    assert NEEDED_ELSEWHERE.isdisjoint(modules)
    assert "ollama_router_server.process.serve" in modules
    assert collects


def test_commands_that_ask_no_router_import_no_client_and_no_server() -> None:
    """`users list` is a question to the database: httpx and uvicorn take a quarter of the time of a start."""
    modules = _modules_of("users")
    assert {"httpx", "uvicorn", "ollama_router_server.process.shim"}.isdisjoint(modules)
    assert "ollama_router_server.storage.user_store" in modules


def test_commands_that_ask_a_router_import_no_database_and_no_server() -> None:
    """`servers list` is a question to a router: SQLAlchemy takes a fifth of the time of a start."""
    modules = _modules_of("servers")
    assert {"sqlalchemy", "uvicorn", "falcon"}.isdisjoint(modules)
    assert "ollama_router_cli.sources.router" in modules


def _modules_of(command: str) -> list[str]:
    started = [sys.executable, "-c", COMMAND, command]
    run = subprocess.run(started, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(run.stdout)
