"""A router as a process of its own, beside servers that run in the test's event loop: for signals and for memory."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.router import users_at, users_in

__all__ = ["RouterProcess", "router_process"]


@dataclass(frozen=True, kw_only=True)
class RouterProcess:
    """A running `orouter serve`; `token` is the user alice's, `admin_token` the user root's."""

    process: asyncio.subprocess.Process
    port: int
    token: str = field(repr=False)
    admin_token: str = field(repr=False)

    def rss(self) -> int:
        """Resident memory in bytes."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def peak_rss(self) -> int:
        """The most resident memory so far, in bytes."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[1]) * 1024 if found else 0

    def files(self) -> int:
        """Open file descriptors."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


@asynccontextmanager
async def router_process(
    folder: Path,
    servers: Mapping[str, dict[str, Any]],
    *,
    database_url: str | None = None,
    port: int = 0,
    fresh: bool = True,
    **config: Any,
) -> AsyncIterator[RouterProcess]:
    """Run `orouter serve` until the block ends; it gets SIGTERM then, if it still runs, and must obey.

    Its database is a file in the folder, or the empty one at `database_url`. One that is not `fresh` goes on with the
    database of the router before it in this folder.
    """
    token, admin_token = await (users_in(folder, fresh=fresh) if database_url is None else users_at(database_url))
    path = folder / "orouter.json"
    path.write_text(json.dumps({"servers": dict(servers), "logging": {"enabled": False}, **config}), encoding="utf-8")
    ours = ("OROUTER_", "OLLAMA_", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    command = ("-m", "ollama_router_cli", "--config", str(path), "serve", "--port", str(port))
    own = {
        "HOME": str(folder),
        "OROUTER_DATABASE_URL": database_url or f"sqlite:///{folder}/router.sqlite3",
        "MALLOC_MMAP_THRESHOLD_": "131072",  # large blocks go back to the kernel: what is counted is what is held
    }
    errors = folder / "router.err"
    with errors.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            env={**kept, **own},
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            line = await process.stdout.readline()
        assert line.startswith(b"listening on "), errors.read_text(encoding="utf-8")[-2000:]
        port = int(line.rpartition(b":")[2])
        yield RouterProcess(process=process, port=port, token=token, admin_token=admin_token)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(20):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
