"""How the token of the first admin reaches a person, and nobody else.

A service manager keeps what is written to standard error, readable by many and for long: under one the token goes into
a file of the service's own folder, and without such a folder no admin is made.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from ollama_router_server.storage.users import CreatedToken

__all__ = ["FILE_NAME", "can_hand_over", "hand_over", "tell_how"]

FILE_NAME = "first-admin-token"


def can_hand_over(environment: Mapping[str, str], err: TextIO) -> bool:
    """Whether a token can be given to a person at all."""
    return _folder(environment) is not None or not _is_journal(environment, err)


def hand_over(created: CreatedToken, environment: Mapping[str, str], err: TextIO) -> None:
    """Give the token to whoever started the router.

    Raises:
        OSError: the file cannot be written.
    """
    folder, token = _folder(environment), created.token.reveal()
    where: tuple[str, ...]
    if folder is None:
        where = ("Its token, shown only now:", "", f"    {token}", "")
    else:
        where = (f"Its token is in {_write(folder, token)}; read it there, then delete the file.",)
    lines = (
        f"No users yet: created {created.user} ({created.role}).",
        *where,
        "Send it as `Authorization: Bearer TOKEN`. More users: orouter users create NAME",
    )
    print("\n".join(lines), file=err, flush=True)


def tell_how(err: TextIO) -> None:
    """No admin was made: say how to make one."""
    print("No users yet. Create an admin: orouter users create admin --role admin", file=err, flush=True)


def _folder(environment: Mapping[str, str]) -> Path | None:
    """The folder that systemd made for the service (`StateDirectory=`)."""
    names = environment.get("STATE_DIRECTORY", "")
    return Path(names.split(":")[0]) if names else None


def _is_journal(environment: Mapping[str, str], err: TextIO) -> bool:
    """Whether standard error is a stream of the journal, as systemd tells it: device and inode."""
    told = environment.get("JOURNAL_STREAM", "")
    if not told:
        return False
    try:
        found = os.fstat(err.fileno())
    except (OSError, ValueError):
        return False
    return told == f"{found.st_dev}:{found.st_ino}"


def _write(folder: Path, token: str) -> Path:
    path = folder / FILE_NAME
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{token}\n")
    return path
