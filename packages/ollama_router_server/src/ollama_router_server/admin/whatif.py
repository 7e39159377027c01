"""What if another strategy decided, or there were one server more or less: the console's twin of `orouter replay`."""

from __future__ import annotations

import asyncio
import json
import math
import shlex
import sys
from typing import Any, Final

from falcon.asgi import Request, Response
from msgspec import Struct

from ollama_router_core.config.settings import Config, StrategyName
from ollama_router_core.errors import InvalidBody, Overloaded
from ollama_router_core.fleet.gpus import GPUS
from ollama_router_core.routing.strategies import STRATEGIES
from ollama_router_server.admin.access import ADMINS
from ollama_router_server.admin.bodies import answer
from ollama_router_server.admin.history import asked_day
from ollama_router_server.admin.replaying import ReplayQuestion, Steps, pack
from ollama_router_server.admin.views.other_day import OtherDayView, other_day_view
from ollama_router_server.admin.views.whatif import WhatIfView, WorldView, whatif_view
from ollama_router_server.services import Services
from ollama_router_server.storage.log_days import STEP
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.log_totals import DAY

__all__ = ["OtherDayResource", "OtherWorld", "WhatIf", "WhatIfResource"]

_MOST_ROWS: Final = 20_000
_SECONDS: Final = 120.0


class OtherWorld(Struct, frozen=True, kw_only=True):
    """What would be different: the strategy, one more server (like `add`, or with a GPU), one off, `queue.max_wait`."""

    strategy: StrategyName
    add: str | None = None
    add_gpu: str | None = None
    off: str | None = None
    max_wait: float | None = None

    def __str__(self) -> str:
        told = " and one more ".join(name for name in (self.strategy, self.add, self.add_gpu) if name is not None)
        if self.off is not None:
            told = f"{told} and without {self.off}"
        return told if self.max_wait is None else f"{told} and waits of at most {self.max_wait:g} s"

    def options(self) -> str:
        """The options of `orouter replay` that make this world."""
        more = {"add": self.add, "add-gpu": self.add_gpu}
        told = {"strategies": self.strategy, **more, "off": self.off, "max-wait": self.max_wait}
        return " ".join(f"--{name} {shlex.quote(f'{value}')}" for name, value in told.items() if value is not None)


class WhatIf:
    """Replays this router's own requests, one question at a time, in a process that gives way to all others."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._busy = False

    async def ask(self, request: Request) -> WhatIfView:
        """Answer what the query asks for: `strategy`, `add`, `add_gpu`, `off`, `max_wait` and `days`.

        Raises:
            InvalidBody: there is no such strategy, or no such server.
            Overloaded: another question is being answered, or this one took two minutes, or its process died.
        """
        world = asked_world(request, self._services.config)
        days = request.get_param_as_int("days", min_value=1, max_value=30) or 1
        chosen = LogFilter(since=self._services.clock.wall() - days * DAY)
        span = "the last day" if days == 1 else f"the last {days} days"
        return whatif_view(_named(world), span, await self._replayed(chosen, world))

    async def ask_day(self, request: Request) -> OtherDayView:
        """Answer what the query asks for, of one day: `day`, `strategy`, `add`, `add_gpu`, `off` and `max_wait`.

        Raises:
            InvalidBody, Overloaded: as `ask`; or it is no day.
        """
        world = asked_world(request, self._services.config)
        day, begin = asked_day(request, self._services.clock.wall())
        found = await self._replayed(LogFilter(since=begin, before=begin + DAY), world, Steps(begin, STEP))
        answered = whatif_view(_named(world), day, found)
        return await asyncio.to_thread(other_day_view, day, begin, answered, found)

    async def _replayed(self, chosen: LogFilter, world: OtherWorld, steps: Steps | None = None) -> dict[str, Any]:
        if self._busy:
            raise Overloaded("another what-if is being answered", retry_after=10)
        self._busy = True
        try:
            rows = await self._services.request_log.list(chosen, limit=_MOST_ROWS)
            question = ReplayQuestion(
                rows=rows,
                servers=self._services.fleet.servers,
                config=self._services.config.model_copy(update={"routing_strategy": world.strategy}),
                more=() if world.add is None else (world.add,),
                gpus=() if world.add_gpu is None else (world.add_gpu,),
                off=() if world.off is None else (world.off,),
                max_wait=world.max_wait,
                steps=steps,
            )
            found = await _answered(await asyncio.to_thread(pack, question))
        finally:
            self._busy = False
        return {**found, "told_from": rows[-1].started_at if len(rows) == _MOST_ROWS else None}


async def _answered(question: bytes) -> dict[str, Any]:
    """Have it answered by a process of its own, which does not outlive the wait for it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ollama_router_server.admin.replaying",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_SECONDS):
            told, _ = await process.communicate(question)
    except TimeoutError:
        raise Overloaded("the replay took more than two minutes; ask for fewer requests") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode or not told:  # ended by the kernel for want of memory, say
        raise Overloaded("the replay's process ended without an answer; ask for fewer requests")
    found: dict[str, Any] = json.loads(told)
    return found


def asked_world(request: Request, config: Config) -> OtherWorld:
    """The world that a query asks for; without a strategy the config's own.

    Raises:
        InvalidBody: there is no such strategy, enabled server or GPU, or `max_wait` is no number.
    """
    asked = request.get_param("strategy") or config.routing_strategy
    strategy = next((name for name in STRATEGIES if name == asked), None)
    if strategy is None:
        raise InvalidBody(f"strategy must be one of {', '.join(STRATEGIES)}")
    servers = {name for name, server in config.servers.items() if server.enabled}
    add = request.get_param("add") or None
    if add is not None and add not in servers:
        raise InvalidBody(f"the config has no enabled server {add[:128]!r} to have one more of")
    add_gpu = request.get_param("add_gpu") or None
    if add_gpu is not None and add_gpu not in GPUS:
        raise InvalidBody(f"add_gpu must be one of {', '.join(GPUS)}")
    off = request.get_param("off") or None
    if off is not None and off not in servers:
        raise InvalidBody(f"the config has no enabled server {off[:128]!r} to be without")
    if off is not None and len(servers) + (add is not None) + (add_gpu is not None) == 1:
        raise InvalidBody("no server would be left")
    named = request.get_param("max_wait") or None  # an empty field of the form is none
    max_wait = None if named is None else request.get_param_as_float("max_wait", min_value=0.001, max_value=86_400.0)
    if max_wait is not None and not math.isfinite(max_wait):  # no bound keeps nan out
        raise InvalidBody("max_wait must be a number of seconds")
    return OtherWorld(strategy=strategy, add=add, add_gpu=add_gpu, off=off, max_wait=max_wait)


def _named(world: OtherWorld) -> WorldView:
    return WorldView(
        name=str(world),
        strategy=world.strategy,
        add=world.add,
        add_gpu=world.add_gpu,
        off=world.off,
        max_wait=world.max_wait,
        options=world.options(),
    )


class WhatIfResource:
    """`GET /router/whatif[?strategy=NAME][&add=SERVER][&add_gpu=GPU][&max_wait=S][&days=N]`."""

    roles = ADMINS

    def __init__(self, whatif: WhatIf) -> None:
        self._whatif = whatif

    async def on_get(self, request: Request, response: Response) -> None:
        """Answer both worlds."""
        answer(response, await self._whatif.ask(request))


class OtherDayResource:
    """`GET /router/history/whatif[?day=2026-11-28][&strategy=NAME][&add=SERVER][&add_gpu=GPU][&max_wait=S]`."""

    roles = ADMINS

    def __init__(self, whatif: WhatIf) -> None:
        self._whatif = whatif

    async def on_get(self, request: Request, response: Response) -> None:
        """Answer the day in the other world."""
        answer(response, await self._whatif.ask_day(request))
