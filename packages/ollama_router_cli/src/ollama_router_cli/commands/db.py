"""`orouter db`: check and upgrade the database."""

from __future__ import annotations

import asyncio

import typer

from ollama_router_cli.arguments.options import SharedOptions, command_group, examples, takes_shared_options
from ollama_router_cli.rendering.streams import print_json, print_outcome, print_result
from ollama_router_cli.sources.settings import read_settings
from ollama_router_server.storage.database import describe_url
from ollama_router_server.storage.upgrade import check_database, upgrade_database

__all__ = ["app"]

app = command_group("Check and upgrade the database.")


@app.command(epilog=examples("OROUTER_DATABASE_URL=postgresql://router@db/router orouter db upgrade"))
@takes_shared_options
def upgrade(*, shared: SharedOptions) -> None:
    """Upgrade the database to this release.

    SQLite files are upgraded automatically when the router starts, PostgreSQL only by this command.
    """
    url = read_settings(shared.config, shared.environment).database_url
    state = asyncio.run(upgrade_database(url))
    print_outcome(
        {"database": describe_url(url), "revision": state.current},
        f"{describe_url(url)} is at revision {state.current}",
        as_json=shared.as_json,
    )


@app.command(epilog=examples("orouter db check"))
@takes_shared_options
def check(*, shared: SharedOptions) -> None:
    """Check that the database is of this release, without changing it.

    Exit code 1 if it is not, or if there is no database.
    """
    url = read_settings(shared.config, shared.environment).database_url
    state = asyncio.run(check_database(url))
    if shared.as_json:
        result = {"revision": state.current, "newest": state.newest, "up_to_date": state.up_to_date}
        print_json({"database": describe_url(url), **result})
    elif state.up_to_date:
        print_result(f"{describe_url(url)} is at revision {state.current}, as this release needs it")
    else:
        way = "orouter db upgrade" if state.known else "use a newer release"
        found = "has no tables yet" if state.current is None else f"is at revision {state.current}"
        print_result(f"{describe_url(url)} {found}, this release needs revision {state.newest}: {way}")
    if not state.up_to_date:
        raise typer.Exit(1)
