"""`orouter db`: bring a database to this release's tables.

Belongs here: the command. Does not belong here: migrations (the server's `storage`).
"""

from __future__ import annotations

import asyncio

from ollama_router_cli.console import print_json, print_result
from ollama_router_cli.options import ConfigOption, EnvironmentOption, JsonOption, command_group, examples
from ollama_router_cli.settings_source import read_settings
from ollama_router_server.storage.database import describe_url
from ollama_router_server.storage.upgrade import upgrade_database

__all__ = ["app"]

app = command_group("Look after the database of users and log.")


@app.command(epilog=examples("OROUTER_DATABASE_URL=postgresql://router@db/router orouter db upgrade"))
def upgrade(*, config: ConfigOption = None, environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """Bring the database to this release.

    SQLite files are upgraded on their own when the router starts; PostgreSQL only by this command.
    """
    url = read_settings(config, environment).database_url
    state = asyncio.run(upgrade_database(url))
    if as_json:
        print_json({"database": describe_url(url), "revision": state.current})
    else:
        print_result(f"{describe_url(url)} is at revision {state.current}")
