"""`orouter config history`, `diff` and `rollback`: the configs that the router activated.

They use only the text of the current config, which may be invalid.
"""

from __future__ import annotations

import asyncio
import difflib
import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

from ollama_router_cli.arguments.options import SharedOptions, YesOption, takes_shared_options
from ollama_router_cli.errors import CommandFailed
from ollama_router_cli.rendering.output import clean, confirm_word, print_json, print_outcome, print_result
from ollama_router_cli.rendering.tables import format_time, print_table
from ollama_router_cli.sources.settings_source import chosen_environment, find_config_file, load_text, read_text
from ollama_router_core.config import changed_paths, fill_secrets, mask_secrets, read_setting
from ollama_router_core.errors import ConfigError
from ollama_router_server.storage.config_history import ConfigVersion, KeptConfigs, config_history
from ollama_router_server.storage.config_versions import kept_in_database
from ollama_router_server.storage.database import sqlite_path

__all__ = ["diff", "history", "rollback"]

VersionArgument = Annotated[int, typer.Argument(metavar="VERSION", min=1, help="Number in `orouter config history`.")]
ComparedArgument = Annotated[int | None, typer.Argument(metavar="[VERSION]", min=1, help="Default: the newest.")]
OtherArgument = Annotated[int | None, typer.Argument(metavar="[OTHER]", min=1, help="Default: the current file.")]


@takes_shared_options
def history(*, shared: SharedOptions) -> None:
    """List the configs that the router applied, newest first, and what changed with each.

    The last fifty are kept, without passwords and values of header fields: in PostgreSQL where that is the database,
    with the router that applied them and why, else in a folder of the router's user. Run it as that user.
    """
    path, kept = _kept(shared)
    known = kept.versions
    changes = [_changes(path, shared, before, version) for before, version in zip([None, *known], known, strict=False)]
    rows = [*zip(known, changes, strict=True)][::-1]
    if shared.as_json:
        versions = [
            {"version": one.number, "taken_up_at": one.at, "router": one.router, "cause": one.cause, "changed": changed}
            for one, changed in rows
        ]
        print_json({"config": str(path), "kept_in": kept.location, "versions": versions})
        return
    if not rows:
        raise _nothing_kept(path, kept)
    has_authors = any(one.router for one in known)
    columns = ("VERSION", "APPLIED", *(("BY", "CAUSE") if has_authors else ()), "CHANGED")
    shown = [
        (one.number, format_time(one.at), *((one.router, one.cause) if has_authors else ()), _words(changed))
        for one, changed in rows
    ]
    print_table(columns, shown, right=("VERSION",))


@takes_shared_options
def diff(version: ComparedArgument = None, other: OtherArgument = None, *, shared: SharedOptions) -> None:
    """Compare a version with another, or with the file as it is now. Without any the newest is compared with the file.

    Secrets are shown as `***` on both sides.
    """
    path, kept = _kept(shared)
    known = kept.versions
    if version is None and not known:
        raise _nothing_kept(path, kept)
    first = known[-1].number if version is None else version
    before = kept.text(first)
    after = mask_secrets(read_text(path)) if other is None else kept.text(other)
    names = f"version {first}", str(path) if other is None else f"version {other}"
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), *names, lineterm="", n=2))
    if shared.as_json:
        print_json({"from": first, "to": other, "diff": lines})
        return
    for line in lines:
        print_result(clean(line))


@takes_shared_options
def rollback(version: VersionArgument, *, yes: YesOption = False, shared: SharedOptions) -> None:
    """Restore a version of the config file; a running router applies it within two seconds.

    Secrets come from the current file, which is kept with `.before-rollback` at the end of its name. Nothing is written
    if the version would be refused today.
    """
    path, kept = _kept(shared)
    text = fill_secrets(kept.text(version), read_text(path))
    load_text(path, text, chosen_environment(shared.environment, os.environ), os.environ)
    if not yes:
        confirm_word(f"{path} is replaced by version {version}.", "rollback")
    saved = _replaced(path, text, version)
    value = {"config": str(path), "version": version, "before": str(saved)}
    print_outcome(
        value, f"{path} is version {version} again; the previous content is in {saved}", as_json=shared.as_json
    )


def _kept(shared: SharedOptions) -> tuple[Path, KeptConfigs]:
    path = find_config_file(shared.config, os.environ)
    if path is None:
        raise CommandFailed("there is no config file: the built-in defaults are in effect, which have no versions")
    url = _database_url(path, shared)
    if url is None or sqlite_path(url) is not None:
        return path, config_history(path).kept()
    return path, asyncio.run(kept_in_database(url, path))


def _database_url(path: Path, shared: SharedOptions) -> str | None:
    """Return the database's URL, even from an invalid file; None if it has none."""
    environment = chosen_environment(shared.environment, os.environ)
    url = os.environ.get("OROUTER_DATABASE_URL") or read_setting(
        read_text(path), "database_url", environment=environment, env=os.environ
    )
    return url if isinstance(url, str) else None


def _nothing_kept(path: Path, kept: KeptConfigs) -> CommandFailed:
    return CommandFailed(f"{kept.location} has no version of {path}; a running router stores each config that it loads")


def _changes(path: Path, shared: SharedOptions, before: ConfigVersion | None, after: ConfigVersion) -> list[str] | None:
    """Return the settings that a version changed; None for the first, and if either version is invalid now."""
    if before is None:
        return None
    environment = chosen_environment(shared.environment, os.environ)
    try:
        old, new = (load_text(path, version.text, environment, os.environ) for version in (before, after))
    except ConfigError:
        return None
    return list(changed_paths(old, new))


def _words(changed: list[str] | None) -> str | None:
    return None if changed is None else ", ".join(changed) or "only comments or secrets"


def _replaced(path: Path, text: str, version: int) -> Path:
    """Write the file; on failure explain where to change it."""
    try:
        return _replace(path.resolve(), text)
    except OSError as error:
        raise CommandFailed(
            f"{path} cannot be written here ({error.strerror}). Where it is mounted read-only, as a ConfigMap of"
            " Kubernetes is, it is changed where it comes from: helm rollback RELEASE, or kubectl edit configmap;"
            f" orouter config diff {version} shows what to change"
        ) from None


def _replace(path: Path, text: str) -> Path:
    """Replace a file atomically, with the same permissions; keep the old one next to it."""
    saved, new = path.with_name(f"{path.name}.before-rollback"), path.with_name(f"{path.name}.new")
    shutil.copy2(path, saved)
    shutil.copy2(path, new)
    new.write_text(text, encoding="utf-8")
    new.replace(path)
    return saved
