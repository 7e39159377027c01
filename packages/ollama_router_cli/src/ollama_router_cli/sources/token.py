"""A token from a file, the environment, a prompt or a pipe, for commands that need no other settings."""

from __future__ import annotations

import getpass
import os
import re
import sys
from pathlib import Path

from ollama_router_cli.errors import CommandFailed

__all__ = ["given_token", "read_token"]

_TOKEN = re.compile(r"[!-~]{1,72}", re.ASCII)


def read_token(file: Path | None) -> str:
    """Read a token from a file, else from OROUTER_TOKEN, else from a prompt or a pipe.

    Raises:
        CommandFailed: there is none, or the file cannot be read.
    """
    if file is not None:
        text = _read(file)
    elif "OROUTER_TOKEN" in os.environ:
        text = os.environ["OROUTER_TOKEN"]
    elif sys.stdin.isatty():
        text = getpass.getpass("Token: ")
    else:
        text = sys.stdin.readline()
    if not _TOKEN.fullmatch(text.strip()):
        raise CommandFailed("no token: pass --token-file FILE, set OROUTER_TOKEN, or enter it at the prompt")
    return text.strip()


def given_token(file: Path | None) -> str | None:
    """Read a token from a file, else from OROUTER_TOKEN; None if neither is given.

    Raises:
        CommandFailed: the file cannot be read, or contains no token.
    """
    return read_token(file) if file is not None or "OROUTER_TOKEN" in os.environ else None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise CommandFailed(f"cannot read {file}: {error.strerror}") from None
