"""What if another strategy decided: `GET /router/whatif`, the console's twin of `orouter replay`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, Final

from falcon.asgi import Request, Response

from ollama_router_core.errors import InvalidBody, Overloaded
from ollama_router_core.routing.strategies import STRATEGIES
from ollama_router_server.admin.access import ADMINS
from ollama_router_server.admin.bodies import answer
from ollama_router_server.admin.replaying import ReplayQuestion, pack
from ollama_router_server.admin.views.whatif import WhatIfView, whatif_view
from ollama_router_server.services import Services
from ollama_router_server.storage.log_filter import LogFilter

__all__ = ["WhatIf", "WhatIfResource"]

_MOST_ROWS: Final = 20_000
_DAY: Final = 86_400.0
_SECONDS: Final = 120.0


class WhatIf:
    """Replays this router's own requests, one question at a time, in a process that gives way to all others."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._busy = False

    async def ask(self, request: Request) -> WhatIfView:
        """Answer what the query asks for: `strategy` and `days`.

        Raises:
            InvalidBody: there is no such strategy.
            Overloaded: another question is being answered, or this one took two minutes.
        """
        strategy = request.get_param("strategy", default=self._services.config.routing_strategy)
        if strategy not in STRATEGIES:
            raise InvalidBody(f"strategy must be one of {', '.join(STRATEGIES)}")
        days = request.get_param_as_int("days", min_value=1, max_value=30) or 1
        if self._busy:
            raise Overloaded("another what-if is being answered", retry_after=10)
        self._busy = True
        try:
            return whatif_view(strategy, days, await self._replayed(strategy, days))
        finally:
            self._busy = False

    async def _replayed(self, strategy: str, days: int) -> dict[str, Any]:
        services = self._services
        since = services.clock.wall() - days * _DAY
        rows = await services.request_log.list(LogFilter(since=since), limit=_MOST_ROWS)
        config = services.config.model_copy(update={"routing_strategy": strategy})
        question = await asyncio.to_thread(pack, ReplayQuestion(rows, services.fleet.servers, config))
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
            raise Overloaded("the replay took more than two minutes; ask for fewer days") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        found: dict[str, Any] = json.loads(told)
        return found


class WhatIfResource:
    """`GET /router/whatif[?strategy=NAME][&days=N]`."""

    roles = ADMINS

    def __init__(self, whatif: WhatIf) -> None:
        self._whatif = whatif

    async def on_get(self, request: Request, response: Response) -> None:
        """Answer both worlds."""
        answer(response, await self._whatif.ask(request))
