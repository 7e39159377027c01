"""What is installed where this program runs: whether it is still what runs."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["Installation"]


class Installation:
    """The packages that this process could import when this was made, and its interpreter."""

    def __init__(self) -> None:
        self._known = _identities(sys.path, sys.executable)

    def has_changed(self) -> bool:
        """Whether anything was installed, replaced or removed since: the same command would run another program."""
        return _identities(sys.path, sys.executable) != self._known


def _identities(folders: Iterable[str], interpreter: str) -> frozenset[tuple[str, int, int]]:
    """Path, inode and time of the interpreter and of each distribution's metadata, which installers write anew."""
    found = [Path(interpreter)]
    for folder in folders:
        found += Path(folder).glob("*.dist-info")
    return frozenset(identity for path in found if (identity := _identity(path)) is not None)


def _identity(path: Path) -> tuple[str, int, int] | None:
    try:
        stat = path.stat()
    except OSError:  # removed at this moment
        return None
    return str(path), stat.st_ino, stat.st_mtime_ns
