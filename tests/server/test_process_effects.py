"""An embedding program keeps its interpreter's settings: only the process of `orouter serve` changes any."""

from __future__ import annotations

import json
import subprocess
import sys

EMBEDDING = """
import asyncio, gc, importlib, json, pkgutil, sqlite3, sys, tempfile

def settings():
    adapters = sorted(f"{kind.__name__}" for kind, _ in sqlite3.adapters)
    return [sys.getswitchinterval(), gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(), adapters]

before = settings()
for name in ("ollama_router_core", "ollama_router_server", "ollama_router_cli"):
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if not module.name.endswith(("__main__", "migrations.env")):
            importlib.import_module(module.name)

from ollama_router_core.config import load_config
from ollama_router_server.app import create_app
from ollama_router_server.services import Services

async def embed():
    config = load_config("servers: {a: {host: 127.0.0.1, port: 9}}")
    with tempfile.TemporaryDirectory() as folder:
        services = Services(config, {"OROUTER_DATABASE_URL": f"sqlite:///{folder}/router.sqlite3"})
        create_app(services)
        await services.prepare()
        await services.start()
        await services.aclose()

asyncio.run(embed())
print(json.dumps([before, settings()]))
"""


def test_neither_imports_nor_services_change_the_process():
    """The switch interval, garbage collection and sqlite3's adapters stay as they were."""
    found = subprocess.run([sys.executable, "-c", EMBEDDING], check=True, stdout=subprocess.PIPE)
    before, after = json.loads(found.stdout.splitlines()[-1])
    assert after == before


def test_the_declared_tables_import_no_dialect_of_postgresql():
    """Most installations use SQLite, and a start of those should not pay 5 MB for the other."""
    code = "import sys, ollama_router_server.app; print('sqlalchemy.dialects.postgresql' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    assert found.stdout.strip() == "False"
