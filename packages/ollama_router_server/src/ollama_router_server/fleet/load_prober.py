"""Sends the probes of runners under suspicion, beside the polls of their servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from ollama_router_core.errors import RouterError
from ollama_router_core.fleet.load_probes import LoadProbe
from ollama_router_core.fleet.state import FleetState
from ollama_router_server.upstream.fetching import fetch, words_of
from ollama_router_server.upstream.interface import Timeouts, Upstream
from ollama_router_server.upstream.targets import Target

__all__ = ["LoadProber"]

_log = structlog.get_logger("fleet")


class LoadProber:
    """One task for each probe. When one is due and what its answer means is decided by `state`."""

    def __init__(
        self,
        state: FleetState,
        targets: Mapping[str, Target],
        upstream: Upstream,
        now: Callable[[], float],
        ended: Callable[[], None],
    ) -> None:
        self._state = state
        self._targets = targets
        self._upstream = upstream
        self._now = now
        self._ended = ended
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, server: str) -> None:
        """Send the probe of a server that is due, if there is one."""
        probe = self._state.load_probe_due(server, self._now())
        if probe is not None:
            task = asyncio.create_task(self._run(probe), name=f"load-probe-{server}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Give up the probes that are under way."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, probe: LoadProbe) -> None:
        error = await self._send(probe)
        self._state.load_probe_ended(probe, error, self._now())
        _log.info("load_probe", server=probe.server, model=probe.model, error=error)
        self._ended()

    async def _send(self, probe: LoadProbe) -> str | None:
        """Return why it was not answered, None if it was."""
        target = self._targets.get(probe.server)
        if target is None:
            return "the config has changed meanwhile"
        timeouts = Timeouts(connect=probe.seconds, first_byte=probe.seconds, idle=probe.seconds)
        try:
            status, body = await fetch(self._upstream, target, "POST", probe.path, timeouts=timeouts, body=probe.body)
        except RouterError as error:
            return error.message
        return None if status == 200 else words_of(status, target.redact(body))
