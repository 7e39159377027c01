"""Every config that a router activated, as text without secrets, in a folder that only its owner can read."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Final

from msgspec import Struct

from ollama_router_core.config import mask_secrets
from ollama_router_core.errors import ConfigError
from ollama_router_server.storage.data_folders import user_folder

__all__ = ["MOST_VERSIONS", "ConfigHistory", "ConfigVersion", "KeptConfigs", "config_history"]

MOST_VERSIONS: Final = 50
"""Versions of one config; the oldest are deleted first."""
_NAME: Final = re.compile(r"(\d{6})-(\d{1,12})\.yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigVersion:
    """A config that was activated: `number` counts from 1, `at` is seconds since 1970, `text` has `***` for secrets.

    `router` activated it because of `cause`: start, file or signal. Both are None for versions read from files.
    """

    number: int
    at: int
    text: str = field(repr=False)
    router: str | None = None
    cause: str | None = None


class KeptConfigs(Struct, frozen=True):
    """The stored versions, oldest first."""

    location: str
    versions: Sequence[ConfigVersion]

    def text(self, number: int) -> str:
        """Return the text of a version, with `***` in place of secrets.

        Raises:
            ConfigError: the version does not exist.
        """
        known = {version.number: version for version in self.versions}
        if number not in known:
            kept = f"{min(known)} to {max(known)} are kept" if known else "none is kept yet"
            raise ConfigError(f"there is no version {number} of the config; {kept} (orouter config history)")
        return known[number].text


def config_history(config: Path) -> ConfigHistory:
    """Return the history of one config file, in this user's data directory.

    The path alone identifies it, since the file's content may be unreadable.
    """
    name = blake2b(str(config.resolve()).encode(), digest_size=8).hexdigest()
    return ConfigHistory(user_folder() / "configs" / name)


class ConfigHistory:
    """The versions in one folder.

    Args:
        folder: created with the first version.
        most: versions to keep; the oldest are deleted first.
    """

    def __init__(self, folder: Path, *, most: int = MOST_VERSIONS) -> None:
        self.folder = folder
        self._most = most

    def keep(self, text: str, now: float) -> bool:
        """Store a text that was activated; return False if it is the newest version already.

        Raises:
            ConfigError: it is not YAML.
            OSError: the file cannot be written.
        """
        masked = mask_secrets(text)
        known = self._files()
        if known and _text(known[-1][2]) == masked:
            return False
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = known[-1][0] + 1 if known else 1
        path = self.folder / f"{number:06}-{int(now)}.yml"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(masked)
        for _, _, old in known[: len(known) + 1 - self._most]:
            with suppress(OSError):
                old.unlink()
        return True

    def kept(self) -> KeptConfigs:
        """Read the versions; skip those that a router deletes meanwhile.

        Raises:
            OSError: a file cannot be read.
        """
        read = ((number, at, _text(path)) for number, at, path in self._files())
        versions = [ConfigVersion(number=number, at=at, text=text) for number, at, text in read if text is not None]
        return KeptConfigs(str(self.folder), versions)

    def _files(self) -> list[tuple[int, int, Path]]:
        """Return number, time and path of each file, oldest first."""
        found = ((path, _NAME.fullmatch(path.name)) for path in self.folder.glob("*.yml"))
        return sorted((int(name[1]), int(name[2]), path) for path, name in found if name is not None)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:  # deleted by `keep` meanwhile
        return None
