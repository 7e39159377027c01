"""Data too long for shared memory: files in a private folder of the router, each replaced atomically by one worker."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["PageFiles"]


class PageFiles:
    """Named pages in a new folder; empty until written."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ollama-router-"))

    def write(self, name: str, page: bytes) -> None:
        """Replace a page."""
        new = self.folder / f"{name}.new"
        with suppress(OSError):  # the folder is gone: the router is stopping
            new.write_bytes(page)
            new.replace(self.folder / f"{name}.page")

    def read(self, name: str) -> bytes:
        """Return a page."""
        try:
            return (self.folder / f"{name}.page").read_bytes()
        except OSError:
            return b""

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
