"""Hand over the first admin's token, and a link that signs in once, to one person only.

Only a terminal is not recorded. Service managers and containers store standard error where others can read it: the
token then goes into a file, in the service's state directory or beside the database. In a journal without a state
directory, or without a writable folder, no admin is created.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from ollama_router_server.storage.data_folders import service_folder
from ollama_router_server.storage.identities import CreatedToken

__all__ = ["FILE_NAME", "LINK_NAME", "LINK_SECONDS", "can_hand_over", "hand_over", "tell_how"]

FILE_NAME = "first-admin-token"
LINK_NAME = "first-admin-link"
LINK_SECONDS = 900.0


def can_hand_over(environment: Mapping[str, str], err: TextIO, data: Path) -> bool:
    """Return whether a token can be handed over safely; `data` is the router's data folder."""
    folder = _folder(environment, err, data)
    if folder == data and _is_journal(environment, err):
        return False
    return folder is None or os.access(folder, os.W_OK)


def hand_over(created: CreatedToken, link: str | None, environment: Mapping[str, str], err: TextIO, data: Path) -> None:
    """Hand token and link to the person who started the router: on a terminal, else in a file each.

    Raises:
        OSError: the file cannot be written.
    """
    folder, token = _folder(environment, err, data), created.token.reveal()
    where: tuple[str, ...]
    if folder is None:
        opened = () if link is None else ("Open the console with it, once, within 15 minutes:", "", f"    {link}", "")
        where = ("Its token, shown only now:", "", f"    {token}", "", *opened)
    else:
        where = (f"Its token is in {_write(folder / FILE_NAME, token)}; read it there, then delete the file.",)
        if link is not None:
            written = _write(folder / LINK_NAME, link)
            where += (f"A link that opens the console, once, within 15 minutes, is in {written}.",)
    lines = (
        f"No users yet: created {created.user} ({created.role}).",
        *where,
        "Send it as `Authorization: Bearer TOKEN`. More users: orouter users create NAME",
    )
    print("\n".join(lines), file=err, flush=True)


def tell_how(err: TextIO) -> None:
    """Print how to create an admin, since none was created."""
    print("No users yet. Create an admin: orouter users create admin --role admin", file=err, flush=True)


def _folder(environment: Mapping[str, str], err: TextIO, data: Path) -> Path | None:
    """Return the directory that systemd provides, None on a terminal, else `data`."""
    return service_folder(environment) or (None if err.isatty() else data)


def _is_journal(environment: Mapping[str, str], err: TextIO) -> bool:
    """Return whether standard error is a stream of the journal, by the device and inode that systemd names."""
    told = environment.get("JOURNAL_STREAM", "")
    if not told:
        return False
    try:
        found = os.fstat(err.fileno())
    except (OSError, ValueError):
        return False
    return told == f"{found.st_dev}:{found.st_ino}"


def _write(path: Path, text: str) -> Path:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{text}\n")
    return path
