"""What-if over HTTP, another strategy or one server more or less: the console's counterpart of `orouter replay`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import Any, Final

from falcon.asgi import Request, Response, SSEvent

from ollama_router_core.errors import InvalidBody, Overloaded, RouterError
from ollama_router_server.admin.json_bodies import answer
from ollama_router_server.admin.other_world import OtherWorld, read_world
from ollama_router_server.admin.query_parameters import read_day
from ollama_router_server.admin.replaying import ReplayQuestion, Steps, pack
from ollama_router_server.admin.token_access import ADMINS
from ollama_router_server.admin.views.other_day import OtherDayView, other_day_view
from ollama_router_server.admin.views.whatif import ProgressView, WhatIfView, WorldView, whatif_view
from ollama_router_server.services import Services
from ollama_router_server.storage.log_days import STEP
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.log_totals import DAY

__all__ = ["WhatIf", "WhatIfResource", "events_of"]

_MOST_ROWS: Final = 20_000
_SECONDS: Final = 120.0
_BEAT: Final = 1.0
"""Seconds between progress events; a write also detects a client that has disconnected."""
_LARGEST: Final = 64 * 2**20
_EVENTS: Final = "text/event-stream"


class WhatIf:
    """Replays this router's own requests, one question at a time, in a low-priority process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._busy = False

    async def ask(self, request: Request) -> WhatIfView:
        """Answer the question in the query: the fields of `OtherWorld`, and `days`.

        Raises:
            InvalidBody: the strategy, server or model does not exist.
            Overloaded: another question is running, this one took two minutes, or its process died.
        """
        async with aclosing(self.follow(request)) as steps:
            async for step in steps:
                if isinstance(step, WhatIfView):
                    return step
        raise Overloaded("the replay ended without an answer")  # pragma: no cover - the last step is the answer

    def follow(self, request: Request) -> AsyncGenerator[ProgressView | WhatIfView, None]:
        """Yield progress and finally the answer; closing the generator kills the process.

        The query is parsed before the stream starts, so that its errors are raised here.

        Raises:
            InvalidBody: see `ask`; later errors are raised by iterating.
            falcon.HTTPInvalidParam: a number is invalid or out of range.
        """
        world = read_world(request, self._services.config)
        return self._followed(world, request.get_param_as_int("days", min_value=1, max_value=30) or 1)

    async def _followed(self, world: OtherWorld, days: int) -> AsyncGenerator[ProgressView | WhatIfView, None]:
        now = self._services.clock.wall()
        chosen = LogFilter(since=now - days * DAY, before=now)
        span = "the last day" if days == 1 else f"the last {days} days"
        async with aclosing(self._replayed(chosen, world)) as steps:
            async for step in steps:
                if isinstance(step, ProgressView):
                    yield step
                    continue
                yield await asyncio.to_thread(whatif_view, _named(world), span, step, _command(world, chosen))

    async def ask_day(self, request: Request) -> OtherDayView:
        """Answer the question in the query for one day: `day`, and the fields of `OtherWorld`.

        Raises:
            InvalidBody, Overloaded: see `ask`; InvalidBody also if `day` is not a day.
        """
        world = read_world(request, self._services.config)
        day, begin = read_day(request, self._services.clock.wall())
        chosen, found = LogFilter(since=begin, before=begin + DAY), dict[str, Any]()
        async with aclosing(self._replayed(chosen, world, Steps(begin, STEP))) as steps:
            async for step in steps:
                found = {} if isinstance(step, ProgressView) else step
        answered = whatif_view(_named(world), day, found, _command(world, chosen))
        return await asyncio.to_thread(other_day_view, day, begin, answered, found)

    async def _replayed(
        self, chosen: LogFilter, world: OtherWorld, steps: Steps | None = None
    ) -> AsyncGenerator[ProgressView | dict[str, Any], None]:
        if self._busy:
            raise Overloaded("another what-if is being answered", retry_after=10)
        self._busy = True
        try:
            rows = await self._services.request_log.list(chosen, limit=_MOST_ROWS)
            told_from = rows[-1].started_at if len(rows) == _MOST_ROWS else None
            config = self._services.config.model_copy(update={"routing_strategy": world.strategy})
            asked = ReplayQuestion(rows=rows, servers=self._services.fleet.servers, config=config, steps=steps)
            async with aclosing(_answered(await asyncio.to_thread(pack, world.question(asked)))) as steps_of_replay:
                async for step in steps_of_replay:
                    yield step if isinstance(step, ProgressView) else {**step, "told_from": told_from}
        finally:
            self._busy = False


async def _answered(question: bytes) -> AsyncGenerator[ProgressView | dict[str, Any], None]:
    """Answer the question in a process of its own, killed when the generator is closed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ollama_router_server.admin.replaying",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LARGEST,
    )
    loop, progress = asyncio.get_running_loop(), ProgressView(done=0, of=0)
    over = loop.time() + _SECONDS
    try:
        await _put(process, question)
        while True:
            yield progress
            if loop.time() > over:
                raise Overloaded("the replay took more than two minutes; ask for fewer requests")
            found = await _next_line(process)
            if found is not None and "refused" in found:
                raise InvalidBody(found["refused"])
            if found is not None and "worlds" in found:
                yield found
                return
            progress = progress if found is None else ProgressView(**found)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _put(process: asyncio.subprocess.Process, question: bytes) -> None:
    stdin = process.stdin
    assert stdin is not None  # noqa: S101 - it was asked for
    with suppress(ConnectionError):  # the process has died: there will be no output
        stdin.write(question)
        await stdin.drain()
        stdin.close()


async def _next_line(process: asyncio.subprocess.Process) -> dict[str, Any] | None:
    """Read the process's next line; None after a second without one.

    Raises:
        Overloaded: the process ended without an answer, for example for lack of memory.
    """
    stdout = process.stdout
    assert stdout is not None  # noqa: S101 - it was asked for
    try:
        async with asyncio.timeout(_BEAT):
            line = await stdout.readline()
    except TimeoutError:
        return None
    if not line.endswith(b"\n"):
        raise Overloaded("the replay's process ended without an answer; ask for fewer requests")
    found: dict[str, Any] = json.loads(line)
    return found


async def events_of(
    steps: AsyncGenerator[ProgressView | WhatIfView, None], written: Callable[[WhatIfView], dict[str, Any]]
) -> AsyncGenerator[SSEvent, None]:
    """Yield the steps as events: `progress`, then `answer` (as `written`) or `error`."""
    try:
        async with aclosing(steps):
            async for step in steps:
                if isinstance(step, ProgressView):
                    yield SSEvent(event="progress", json=step.model_dump())
                else:
                    yield SSEvent(event="answer", json=written(step))
    except RouterError as error:
        yield SSEvent(event="error", json={"error": error.message, "code": error.code})


def _named(world: OtherWorld) -> WorldView:
    return WorldView.from_object(world, name=str(world), options=world.options())


def _command(world: OtherWorld, chosen: LogFilter) -> str:
    """Return the shell command for the same question."""
    since, before = (datetime.fromtimestamp(at or 0.0, UTC).isoformat() for at in (chosen.since, chosen.before))
    return f"orouter replay --since {since} --before {before} --limit {_MOST_ROWS} {world.options()}"


class WhatIfResource:
    """`GET /router/whatif[?strategy=NAME][&add=SERVER][&add_gpu=GPU][&put=SERVER=MODEL][&max_wait=S][&days=N]`.

    With `accept: text/event-stream` the response is a stream with progress; a disconnect cancels the replay.
    """

    roles = ADMINS

    def __init__(self, whatif: WhatIf) -> None:
        self._whatif = whatif

    async def on_get(self, request: Request, response: Response) -> None:
        """Answer with the comparison of both worlds."""
        if _EVENTS in (request.get_header("accept") or ""):
            response.sse = events_of(self._whatif.follow(request), lambda view: view.model_dump())
            return
        answer(response, await self._whatif.ask(request))
