"""`orouter config history`, `diff` and `rollback`: the configs that the router took up before.

They read no more of the present config than its text: it may be the one with problems.
"""

from __future__ import annotations

import difflib
import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

from ollama_router_cli.arguments.options import SharedOptions, YesOption, takes_shared_options
from ollama_router_cli.errors import CommandFailed
from ollama_router_cli.rendering.streams import clean, confirm_word, print_json, print_outcome, print_result
from ollama_router_cli.rendering.tables import format_time, print_table
from ollama_router_cli.sources.settings import chosen_environment, find_config_file, load_text, read_text
from ollama_router_core.config import changed_paths, fill_secrets, mask_secrets
from ollama_router_core.errors import ConfigError
from ollama_router_server.storage.config_history import ConfigHistory, ConfigVersion, config_history

__all__ = ["diff", "history", "rollback"]

VersionArgument = Annotated[int, typer.Argument(metavar="VERSION", min=1, help="Number in `orouter config history`.")]
ComparedArgument = Annotated[int | None, typer.Argument(metavar="[VERSION]", min=1, help="Default: the newest.")]
OtherArgument = Annotated[int | None, typer.Argument(metavar="[OTHER]", min=1, help="Default: the file as it is now.")]


@takes_shared_options
def history(*, shared: SharedOptions) -> None:
    """List the configs that the router took up, the newest first, and what changed with each.

    The last fifty are kept, in a folder of the router's user, without passwords and values of header fields. Run it as
    that user.
    """
    path, kept = _kept(shared)
    known = kept.versions()
    changes = [_changes(path, shared, before, version) for before, version in zip([None, *known], known, strict=False)]
    rows = [*zip(known, changes, strict=True)][::-1]
    if shared.as_json:
        versions = [{"version": one.number, "taken_up_at": one.at, "changed": changed} for one, changed in rows]
        print_json({"config": str(path), "folder": str(kept.folder), "versions": versions})
        return
    if not rows:
        raise _nothing_kept(path, kept)
    shown = [(one.number, format_time(one.at), _words(changed)) for one, changed in rows]
    print_table(("VERSION", "TAKEN UP", "CHANGED"), shown, right=("VERSION",))


@takes_shared_options
def diff(version: ComparedArgument = None, other: OtherArgument = None, *, shared: SharedOptions) -> None:
    """Compare a version with another, or with the file as it is now. Without any the newest is compared with the file.

    Secrets are shown as `***` on both sides.
    """
    path, kept = _kept(shared)
    known = kept.versions()
    if version is None and not known:
        raise _nothing_kept(path, kept)
    first = known[-1].number if version is None else version
    before = kept.text(first)
    after = mask_secrets(read_text(path)) if other is None else kept.text(other)
    told = f"version {other}" if other is not None else str(path)
    lines = list(
        difflib.unified_diff(before.splitlines(), after.splitlines(), f"version {first}", told, lineterm="", n=2)
    )
    if shared.as_json:
        print_json({"from": first, "to": other, "diff": lines})
        return
    for line in lines:
        print_result(clean(line))


@takes_shared_options
def rollback(version: VersionArgument, *, yes: YesOption = False, shared: SharedOptions) -> None:
    """Write a version back into the config's file; a running router takes it up within two seconds.

    Secrets come from the file of now, which is kept beside it with `.before-rollback` at the end. Nothing is written
    if the version would be refused today.
    """
    path, kept = _kept(shared)
    text = fill_secrets(kept.text(version), read_text(path))
    load_text(path, text, chosen_environment(shared.environment, os.environ), os.environ)
    if not yes:
        confirm_word(f"{path} is replaced by version {version}.", "rollback")
    saved = _replace(path.resolve(), text)
    value = {"config": str(path), "version": version, "before": str(saved)}
    print_outcome(value, f"{path} is version {version} again; what it was is in {saved}", as_json=shared.as_json)


def _kept(shared: SharedOptions) -> tuple[Path, ConfigHistory]:
    path = find_config_file(shared.config, os.environ)
    if path is None:
        raise CommandFailed("there is no config file: the built-in defaults are in effect, which have no versions")
    return path, config_history(path)


def _nothing_kept(path: Path, kept: ConfigHistory) -> CommandFailed:
    return CommandFailed(f"no version of {path} is kept in {kept.folder}; a running router keeps what it takes up")


def _changes(path: Path, shared: SharedOptions, before: ConfigVersion | None, after: ConfigVersion) -> list[str] | None:
    """What a version changed; None for the first, and where one of the two cannot be read today."""
    if before is None:
        return None
    environment = chosen_environment(shared.environment, os.environ)
    try:
        old, new = (
            load_text(path, version.path.read_text(encoding="utf-8"), environment, os.environ)
            for version in (before, after)
        )
    except ConfigError:
        return None
    return list(changed_paths(old, new))


def _words(changed: list[str] | None) -> str | None:
    return None if changed is None else ", ".join(changed) or "comments or secrets alone"


def _replace(path: Path, text: str) -> Path:
    """Write a file anew in one step, with the rights that it had; what it was stays beside it."""
    saved, new = path.with_name(f"{path.name}.before-rollback"), path.with_name(f"{path.name}.new")
    shutil.copy2(path, saved)
    shutil.copy2(path, new)
    new.write_text(text, encoding="utf-8")
    new.replace(path)
    return saved
