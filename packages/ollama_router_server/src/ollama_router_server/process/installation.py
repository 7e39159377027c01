"""The installed program: detect that it differs from the running one."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["Installation"]


class Installation:
    """The interpreter and the installed packages at the time of creation."""

    def __init__(self) -> None:
        self._known = _identities(sys.path, sys.executable)

    def has_changed(self) -> bool:
        """Return whether a package or the interpreter was installed, replaced or removed since."""
        return _identities(sys.path, sys.executable) != self._known


def _identities(folders: Iterable[str], interpreter: str) -> frozenset[tuple[str, int, int]]:
    """Return path, inode and mtime of the interpreter and each distribution's metadata, which installers rewrite."""
    found = [Path(interpreter)]
    for folder in folders:
        found += Path(folder).glob("*.dist-info")
    return frozenset(identity for path in found if (identity := _identity(path)) is not None)


def _identity(path: Path) -> tuple[str, int, int] | None:
    try:
        stat = path.stat()
    except OSError:  # removed concurrently
        return None
    return str(path), stat.st_ino, stat.st_mtime_ns
