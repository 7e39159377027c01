"""The key of token proofs, in a file of its own, so that a stolen database does not contain it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import structlog

from ollama_router_core.access.token_proofs import KEY_LENGTH, TokenProver
from ollama_router_core.errors import ConfigError
from ollama_router_server.storage.data_folders import state_folder
from ollama_router_server.storage.database import sqlite_path
from ollama_router_server.system import random_bytes

__all__ = ["find_token_prover", "make_token_prover", "token_key_path"]

_log = structlog.get_logger(__name__)


def token_key_path(database_url: str, environment: Mapping[str, str]) -> Path:
    """Return `OROUTER_TOKEN_KEY_FILE`, else a file next to SQLite's, else one in the state or data directory.

    Raises:
        ConfigError: the URL's database is not supported.
    """
    if named := environment.get("OROUTER_TOKEN_KEY_FILE"):
        return Path(named)
    if (database := sqlite_path(database_url)) is not None:
        return database.with_name(f"{database.name}.token-key")
    return state_folder(environment) / "token-key"


def make_token_prover(path: Path) -> TokenProver | None:
    """Read the key, creating it if missing; None, with a warning, if the file can be neither read nor created.

    Raises:
        ConfigError: the file's content is not a key.
    """
    try:
        if not path.exists():
            _create(path)
        return _read(path)
    except OSError as error:
        _log.warning("token_key_unavailable", path=str(path), detail=error.strerror)
        return None


def find_token_prover(path: Path) -> TokenProver | None:
    """Read the key; None if it is missing or unreadable.

    Raises:
        ConfigError: the file's content is not a key.
    """
    try:
        return _read(path)
    except OSError:
        return None


def _read(path: Path) -> TokenProver:
    try:
        return TokenProver(bytes.fromhex(path.read_text(encoding="ascii")))
    except ValueError:
        raise ConfigError(
            f"{path} must hold {2 * KEY_LENGTH} hex digits; delete it, and the router makes a new one"
        ) from None


def _create(path: Path) -> None:
    """Write a new key atomically: if workers start together, the first one wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.{random_bytes(8).hex()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{random_bytes(KEY_LENGTH).hex()}\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
