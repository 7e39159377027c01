"""Every config that a router took up, as text without its secrets: files of one folder that only its owner reads."""

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
"""Of one config; the oldest go first."""
_NAME: Final = re.compile(r"(\d{6})-(\d{1,12})\.yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigVersion:
    """A config that was taken up: `number` counts from 1, `at` is seconds since 1970, `text` has `***` for secrets.

    `router` took it up because of `cause`: start, file or signal. Files do not tell either.
    """

    number: int
    at: int
    text: str = field(repr=False)
    router: str | None = None
    cause: str | None = None


class KeptConfigs(Struct, frozen=True):
    """The versions that are kept, oldest first."""

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

    It is found by the file's path alone, because a file that is to be replaced may say nothing that can be read.
    """
    name = blake2b(str(config.resolve()).encode(), digest_size=8).hexdigest()
    return ConfigHistory(user_folder() / "configs" / name)


class ConfigHistory:
    """The versions in one folder.

    Args:
        folder: made with the first version.
        most: versions to keep; the oldest go first.
    """

    def __init__(self, folder: Path, *, most: int = MOST_VERSIONS) -> None:
        self.folder = folder
        self._most = most

    def keep(self, text: str, now: float) -> bool:
        """Keep a text that was taken up; say whether it was not the newest version already.

        Raises:
            ConfigError: it is no YAML.
            OSError: it cannot be written.
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
        """Read the versions; one that a router removes meanwhile is left out.

        Raises:
            OSError: one cannot be read.
        """
        read = ((number, at, _text(path)) for number, at, path in self._files())
        versions = [ConfigVersion(number=number, at=at, text=text) for number, at, text in read if text is not None]
        return KeptConfigs(str(self.folder), versions)

    def _files(self) -> list[tuple[int, int, Path]]:
        """Numbers, times and files, oldest first."""
        found = ((path, _NAME.fullmatch(path.name)) for path in self.folder.glob("*.yml"))
        return sorted((int(name[1]), int(name[2]), path) for path, name in found if name is not None)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:  # the oldest go while others read
        return None
