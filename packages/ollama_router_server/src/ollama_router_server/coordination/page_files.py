"""Data too long for shared memory: files in a private folder of the router, each replaced atomically by one worker."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["PageFiles"]

_FLEET = "fleet"


class PageFiles:
    """One page per worker and one for the fleet, in a new folder; empty until written."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ollama-router-"))

    def write(self, worker: int, page: bytes) -> None:
        """Replace a worker's page."""
        self._replace(f"{worker}.page", page)

    def read(self, worker: int) -> bytes:
        """Return a worker's page."""
        return self._read(f"{worker}.page")

    def write_fleet(self, page: bytes) -> None:
        """Replace the summary of the fleet."""
        self._replace(_FLEET, page)

    def read_fleet(self) -> bytes:
        """Return the last summary of the fleet."""
        return self._read(_FLEET)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _replace(self, name: str, data: bytes) -> None:
        new = self.folder / f"{name}.new"
        with suppress(OSError):  # the folder is gone: the router is stopping
            new.write_bytes(data)
            new.replace(self.folder / name)

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError:
            return b""
