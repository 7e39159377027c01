"""Discovery by a file that another program writes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ollama_router_core.config import FoundServer
from ollama_router_core.config.found_servers import servers_of
from ollama_router_core.errors import ConfigError
from ollama_router_server.fleet.discovery.finder import LookFailed, Periodic

__all__ = ["FileFinder"]

_INTERVAL = 0.5


class FileFinder(Periodic):
    """A file with servers by name, read again when it has changed."""

    interval = _INTERVAL

    def __init__(self, path: str) -> None:
        self.source = f"file:{path}"
        self._path = Path(path)
        self._stamp: tuple[int, int, int] | None = None
        self._found: tuple[FoundServer, ...] = ()

    async def look(self) -> tuple[FoundServer, ...]:
        """Read the file if it has changed.

        Raises:
            LookFailed: the file is missing or invalid.
        """
        return await asyncio.to_thread(self._look)

    def _look(self) -> tuple[FoundServer, ...]:
        try:
            state = self._path.stat()
            stamp = (state.st_mtime_ns, state.st_ino, state.st_size)
            if stamp != self._stamp:
                self._found = servers_of(self._path.read_text(encoding="utf-8-sig"), self.source)
                self._stamp = stamp
        except OSError as error:
            raise LookFailed(f"{self._path}: {error.strerror}") from None
        except ConfigError as error:
            raise LookFailed(f"{self._path}: {error.message}") from None
        except UnicodeDecodeError:
            raise LookFailed(f"{self._path} is not UTF-8") from None
        return self._found
