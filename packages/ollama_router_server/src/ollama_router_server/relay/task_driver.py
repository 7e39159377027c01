"""A driver that runs as a task and awaits results."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar, cast

from ollama_router_core.exchange.actions import CollaboratorAction, Steps
from ollama_router_server.relay.driver import Driver
from ollama_router_server.relay.result_poller import WAITING

__all__ = ["TaskDriver"]

_Result = TypeVar("_Result")


class TaskDriver(Driver):
    """Await the results of actions."""

    __slots__ = ("_woken",)

    _woken: asyncio.Future[None] | None

    def wake(self) -> None:
        """Poll the pending action again."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def _result_of(self, action: CollaboratorAction) -> Any:
        """Perform an action and return its result.

        Raises:
            RouterError: the action failed.
        """
        self._woken = asyncio.get_running_loop().create_future()
        result = self.handlers[type(action)](self, action)
        while result is WAITING:
            await self._woken
            self._woken = asyncio.get_running_loop().create_future()
            result = self._poll()
        return result

    async def run_steps(self, steps: Steps[_Result]) -> _Result:
        """Run steps of the router itself, without a client."""
        result: Any = None
        try:
            action = next(steps)
            while True:
                try:
                    result = await self._result_of(cast("CollaboratorAction", action))
                except BaseException as error:  # noqa: BLE001 - the steps decide what becomes of it
                    self._cancel()
                    action = steps.throw(error)
                else:
                    action = steps.send(result)
        except StopIteration as stop:
            return cast("_Result", stop.value)
