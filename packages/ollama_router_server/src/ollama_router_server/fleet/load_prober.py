"""Send probes to runners that may hang, alongside the polls of their servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from ollama_router_core.errors import RouterError
from ollama_router_core.fleet.load_probes import LoadProbe
from ollama_router_core.responses.server_documents import words_of
from ollama_router_server.upstream.fetching import fetch
from ollama_router_server.upstream.interface import Timeouts, Upstream
from ollama_router_server.upstream.targets import Target

__all__ = ["LoadProber"]


class LoadProber:
    """One task per probe; `ended` is called with the error, None if the probe was answered."""

    def __init__(
        self, targets: Mapping[str, Target], upstream: Upstream, ended: Callable[[LoadProbe, str | None], None]
    ) -> None:
        self._targets = targets
        self._upstream = upstream
        self._ended = ended
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, probe: LoadProbe) -> None:
        """Send a probe."""
        task = asyncio.create_task(self._run(probe), name=f"load-probe-{probe.server}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Cancel the probes in flight."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, probe: LoadProbe) -> None:
        self._ended(probe, await self._send(probe))

    async def _send(self, probe: LoadProbe) -> str | None:
        """Return the error, None if the probe was answered."""
        target = self._targets.get(probe.server)
        if target is None:
            return "the config has changed meanwhile"
        timeouts = Timeouts(connect=probe.seconds, first_byte=probe.seconds, idle=probe.seconds)
        try:
            status, body = await fetch(self._upstream, target, "POST", probe.path, timeouts=timeouts, body=probe.body)
        except RouterError as error:
            return error.message
        return None if status == 200 else words_of(status, target.redact(body))
