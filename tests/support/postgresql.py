"""A private PostgreSQL for the test session."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["find_binaries", "running_cluster"]


def find_binaries() -> Path | None:
    """The folder of the newest `initdb` on this machine: Debian's, or the one on PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    found = [*versions, *([Path(on_path)] if on_path else [])]
    return found[-1].parent if found else None


@contextmanager
def running_cluster(binaries: Path) -> Iterator[str]:
    """A cluster without any durability; yields the URL of its `postgres` database.

    PostgreSQL refuses to run as root, so root hands over to the user `postgres`.
    """
    folder = Path(tempfile.mkdtemp(prefix="router-pg-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        _run(binaries / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N")
        options = f"-k {folder} -c listen_addresses= -c fsync=off -c full_page_writes=off"
        log = folder / "log"
        _run(binaries / "pg_ctl", "-D", folder / "data", "-l", log, "-w", "-o", options, "start")
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            _run(binaries / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(*command: str | Path) -> None:
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    subprocess.run([*as_user, *map(str, command)], check=True, stdout=subprocess.DEVNULL, cwd="/", timeout=60)
