"""What this program is, and which data it stores."""

from __future__ import annotations

from collections.abc import Iterable

from ollama_router_core.config.settings import Config
from ollama_router_core.errors import amount
from ollama_router_server.admin.view import View
from ollama_router_server.storage.config_history import MOST_VERSIONS

__all__ = ["AboutView", "KeptDataView", "LibraryView", "RunningView", "about_view", "kept_data"]

_DAY = 86_400.0


class LibraryView(View):
    """A library that the router uses. `licence` comes from its package, null if it states none."""

    name: str
    version: str
    licence: str | None


class KeptDataView(View):
    """A kind of stored data, and how long it is kept, in words."""

    what: str
    until: str


class RunningView(View):
    """Workers, and those heard from; pending and lost rows of the log; whether the database answers."""

    workers: int
    workers_heard: int
    log_pending: int
    log_dropped: int
    database_answers: bool


class AboutView(View):
    """The router's version and licence, Python's version, the database type, the libraries, and the stored data.

    `running` is null for plain users.
    """

    version: str
    licence: str
    python: str
    database: str
    libraries: list[LibraryView]
    kept: list[KeptDataView]
    never: list[str]
    running: RunningView | None = None


def about_view(
    config: Config, *, version: str, python: str, database: str, libraries: Iterable[LibraryView]
) -> AboutView:
    """Return the data that every user may see."""
    prompts = [] if config.responses.store else ["prompts and answers"]
    return AboutView(
        version=version,
        licence="MIT",
        python=python,
        database=database,
        libraries=sorted(libraries, key=lambda one: one.name.lower()),
        kept=kept_data(config),
        never=[*prompts, "values of headers", "query strings", "tokens and passwords in plain text (only digests)"],
    )


def kept_data(config: Config) -> list[KeptDataView]:
    """List the data that the config lets the router store, with its retention."""
    rows, console, answers = config.request_log, config.console, config.responses
    days = "indefinitely" if rows.keep_days is None else f"for {rows.keep_days:g} days"
    most = "" if rows.max_rows is None else f", at most the newest {rows.max_rows:,}"
    kept = {
        "a row for each request: user, client address, model, server, times, tokens, error": f"{days}{most}",
        "totals by hour and day, per user, model and server": "as long as the rows",
        "changes with their authors (audit trail), and incidents": days,
        "users, groups, and digests of tokens": "until they are deleted",
        "operations on models": "for 7 days",
        "config versions, without secrets": f"the newest {MOST_VERSIONS}",
        **_files(config),
    }
    if console.enabled:
        kept["digests of sign-in links"] = "until used or withdrawn; expired ones until the next link is created"
        kept["digests of console sessions"] = f"for at most {_time(console.session_max_age)}"
    if answers.store:
        kept["prompts and answers of /v1/responses"] = f"for {_time(answers.keep)}, or until the user deletes them"
    return [KeptDataView(what=what, until=until) for what, until in kept.items()]


def _files(config: Config) -> dict[str, str]:
    """List data written to files, which rotate by size alone."""
    rows, log = config.request_log, config.logging
    kept = {}
    if rows.directory is not None:
        kept["request rows, also in files"] = _newest(rows.max_files, rows.max_size)
    if log.enabled and log.directory is not None:
        kept["the router's own log, in files"] = _newest(log.max_files, log.max_size)
    return kept


def _newest(files: int, size: str) -> str:
    return f"regardless of age, the newest {amount(files, 'file')} of {size} per worker"


def _time(seconds: float) -> str:
    return f"{seconds / _DAY:g} days" if seconds >= _DAY else f"{seconds / 3600:g} hours"
