"""`orouter db`: check, upgrade, copy, back up and restore the database."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import asdict

from ollama_router_cli.arguments.options import SharedOptions, YesOption, command_group, examples, takes_shared_options
from ollama_router_cli.rendering.output import confirm_word, print_json, print_note, print_outcome, print_result
from ollama_router_cli.rendering.tables import format_bytes, format_count, print_table
from ollama_router_cli.sources.settings_source import read_settings
from ollama_router_cli.sources.storage import operator
from ollama_router_server.storage.audit_log import AuditEntry
from ollama_router_server.storage.copying import back_up_database, copy_database, restore_database
from ollama_router_server.storage.database import describe_url
from ollama_router_server.storage.database_status import DatabaseStatus, database_status
from ollama_router_server.storage.table_copies import CopiedTable
from ollama_router_server.storage.upgrade import SchemaState, check_database, downgrade_database, upgrade_database
from ollama_router_server.system import SystemClock

__all__ = ["app"]

app = command_group("Check, upgrade, copy, back up and restore the database.")

_FromOption = Annotated[str | None, typer.Option("--from", metavar="URL", help="Source. Default: the database in use.")]
_ToOption = Annotated[str, typer.Option("--to", metavar="URL", help="Target: a new or empty database.")]


@app.command(epilog=examples("OROUTER_DATABASE_URL=postgresql://router@db/router orouter db upgrade"))
@takes_shared_options
def upgrade(*, shared: SharedOptions) -> None:
    """Upgrade the database to this release.

    SQLite files are upgraded automatically when the router starts, PostgreSQL only by this command.
    """
    url = _database(shared)
    _print_revision(url, asyncio.run(upgrade_database(url, tell=print_note)), as_json=shared.as_json)


@app.command(epilog=examples("orouter db downgrade", "orouter db downgrade --to 0001_initial --yes"))
@takes_shared_options
def downgrade(
    *,
    revision: Annotated[
        str | None, typer.Option("--to", metavar="REVISION", help="Default: the one before the database's.")
    ] = None,
    yes: YesOption = False,
    shared: SharedOptions,
) -> None:
    """Take the database back to an earlier revision, for an earlier release. Run it with the newer one.

    What the later revisions added is lost. Make a backup first, and stop routers of the newer release.
    """
    url = _database(shared)
    if not yes:
        confirm_word(f"Data that later revisions added to {describe_url(url)} is lost.", "downgrade")
    _print_revision(url, asyncio.run(downgrade_database(url, revision, tell=print_note)), as_json=shared.as_json)


@app.command(epilog=examples("orouter db check"))
@takes_shared_options
def check(*, shared: SharedOptions) -> None:
    """Check that the database matches this release, without changing it.

    Exit code 1 if it is not, or if there is no database.
    """
    url = _database(shared)
    state = asyncio.run(check_database(url))
    if shared.as_json:
        print_json({"database": describe_url(url), **_schema(state)})
    else:
        print_result(f"{describe_url(url)} {_state_text(state)}")
    if not state.usable:
        raise typer.Exit(1)


@app.command(epilog=examples("orouter db status", "orouter db status --json"))
@takes_shared_options
def status(*, shared: SharedOptions) -> None:
    """Show the database's revision, its size and how many rows each table has.

    Exit code 1 under the same conditions as `check`.
    """
    url = _database(shared)
    found = asyncio.run(database_status(url))
    if shared.as_json:
        sizes = {"size_bytes": found.size_bytes, "rows": dict(found.rows)}
        print_json({"database": describe_url(url), **_schema(found.schema), **sizes})
    else:
        _show(url, found)
    if not found.schema.usable:
        raise typer.Exit(1)


@app.command(
    epilog=examples(
        "orouter db copy --to postgresql://router@db/router",
        "orouter db copy --from sqlite:////var/lib/ollama-router/router.sqlite3 --to postgresql://router@db/router",
    )
)
@takes_shared_options
def copy(*, source: _FromOption = None, target: _ToOption, shared: SharedOptions) -> None:
    """Copy users, groups, tokens, the log, usage and the audit trail into an empty database.

    Rows and digests of all tables are compared at the end. Run the same command again to continue an interrupted copy;
    until it is complete, no router starts on the target. Console sessions are not copied.
    """
    url = source or _database(shared)
    with _table_progress() as progress:
        tables = asyncio.run(copy_database(url, target, report=progress))
    _print_copied(tables, f"{describe_url(url)} is copied to {describe_url(target)}", as_json=shared.as_json)
    print_note("give the routers on it the token key as well (orouter db copy does not copy it), or each token costs")
    print_note("one slow check more: see docs/how-to/move-to-postgresql.md")


@app.command(epilog=examples("orouter db backup /var/backups/router.sqlite3"))
@takes_shared_options
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new SQLite file.")], *, shared: SharedOptions
) -> None:
    """Back up the database, SQLite or PostgreSQL, while routers run on it.

    The file is a consistent snapshot, verified against the database and readable by its owner alone. It appears when it
    is complete.
    """
    url = _database(shared)
    with _table_progress() as progress:
        tables = asyncio.run(back_up_database(url, file, report=progress))
    _print_copied(tables, f"{describe_url(url)} is backed up in {file}", as_json=shared.as_json)


@app.command(epilog=examples("orouter db restore /var/backups/router.sqlite3"))
@takes_shared_options
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file from `orouter db backup`.")],
    *,
    yes: YesOption = False,
    shared: SharedOptions,
) -> None:
    """Replace everything in the database by a backup, SQLite or PostgreSQL, in one transaction.

    Users deleted since the backup exist again; tokens revoked since then are valid again.
    """
    url = _database(shared)
    if not yes:
        confirm_word(f"Everything in {describe_url(url)} is replaced by {file}.", "restore")
    entry = AuditEntry(at=SystemClock().wall(), actor=operator(), action="db.restore", subject=file.name, detail={})
    with _table_progress() as progress:
        tables = asyncio.run(restore_database(file, url, entry=entry, report=progress))
    _print_copied(tables, f"{describe_url(url)} is restored from {file}", as_json=shared.as_json)


def _database(shared: SharedOptions) -> str:
    return read_settings(shared.config, shared.environment).database_url


def _print_revision(url: str, state: SchemaState, *, as_json: bool) -> None:
    shown = describe_url(url)
    value = {"database": shown, "revision": state.current}
    print_outcome(value, f"{shown} is at revision {state.current}", as_json=as_json)


def _schema(state: SchemaState) -> dict[str, object]:
    known = {"revision": state.current, "newest": state.newest}
    return {**known, "up_to_date": state.up_to_date, "usable": state.usable}


def _state_text(state: SchemaState) -> str:
    if state.up_to_date:
        return f"is at revision {state.current}, as this release needs it"
    if state.usable:
        return f"is at revision {state.current} of the next release, which only added to {state.newest}"
    if state.unfinished:
        return f"is an unfinished copy: {state.remedy}"
    found = "has no tables yet" if state.current is None else f"is at revision {state.current}"
    return f"{found}, this release needs revision {state.newest}: {state.remedy}"


def _show(url: str, found: DatabaseStatus) -> None:
    print_result(f"{describe_url(url)} {_state_text(found.schema)}; {format_bytes(found.size_bytes)}")
    if found.rows:
        rows = [(name, format_count(count)) for name, count in found.rows.items()]
        print_table(("TABLE", "ROWS"), rows, right=("ROWS",))


@contextmanager
def _table_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function that shows a copy's progress: one overwritten line on a terminal, else a line per table."""
    on_terminal, line_open = sys.stderr.isatty(), False

    def show(table: str, done: int, total: int) -> None:
        nonlocal line_open
        text = f"{table}: {done:,} of {total:,} rows"
        if on_terminal:
            sys.stderr.write(f"\r{text:<60}")
            line_open = True
        elif done >= total:
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    try:
        yield show
    finally:
        if line_open:
            sys.stderr.write("\n")


def _print_copied(tables: Sequence[CopiedTable], text: str, *, as_json: bool) -> None:
    total = sum(table.rows for table in tables)
    value = {"rows": total, "tables": [asdict(table) for table in tables]}
    counted = f"{total:,} rows in {len(tables)} tables, digests equal"
    print_outcome(value, f"{text}: {counted}", as_json=as_json)
