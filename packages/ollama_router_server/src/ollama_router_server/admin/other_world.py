"""A what-if scenario: parsed from a query, applied to a replay question, and written as command-line options."""

from __future__ import annotations

import math
import shlex

from falcon.asgi import Request
from msgspec import Struct, structs

from ollama_router_core.config.settings import Config, StrategyName
from ollama_router_core.errors import InvalidBody
from ollama_router_core.fleet.gpus import GPUS, read_gpu
from ollama_router_core.routing.strategies import STRATEGIES
from ollama_router_server.admin.query_parameters import read_choice
from ollama_router_server.admin.replaying import ReplayQuestion

__all__ = ["OtherWorld", "read_world"]


class OtherWorld(Struct, frozen=True, kw_only=True):
    """A scenario's changes: strategy, an added server (like `add`, or with a GPU), a removed one, `queue.max_wait`.

    `num_parallel` is the slots per loaded model; `put` places a model on another server: `big=qwen3:8b`.
    """

    strategy: StrategyName
    add: str | None = None
    add_gpu: str | None = None
    off: str | None = None
    put: str | None = None
    num_parallel: int | None = None
    max_wait: float | None = None

    def __str__(self) -> str:
        gpu = None if self.add_gpu is None else read_gpu(self.add_gpu)
        more = (self.strategy, self.add, None if gpu is None else gpu.name)
        text = " and one more ".join(name for name in more if name is not None)
        if self.off is not None:
            text = f"{text} and without {self.off}"
        if self.put is not None:
            server, _, model = self.put.partition("=")
            text = f"{text} and {model} on {server}"
        if self.num_parallel is not None:
            text = f"{text} and {self.num_parallel} slots"
        return text if self.max_wait is None else f"{text} and waits of at most {self.max_wait:g} s"

    def options(self) -> str:
        """Return the options of `orouter replay` for this scenario."""
        options = {
            "strategies": self.strategy,
            "add": self.add,
            "add-gpu": self.add_gpu,
            "off": self.off,
            "put": self.put,
            "num-parallel": self.num_parallel,
            "max-wait": self.max_wait,
        }
        return " ".join(f"--{name} {shlex.quote(f'{value}')}" for name, value in options.items() if value is not None)

    def question(self, base: ReplayQuestion) -> ReplayQuestion:
        """Return the question with this scenario's changes."""
        server, _, model = (self.put or "").partition("=")
        return structs.replace(
            base,
            more=() if self.add is None else (self.add,),
            gpus=() if self.add_gpu is None else (self.add_gpu,),
            off=() if self.off is None else (self.off,),
            put=() if self.put is None else ((server, model),),
            num_parallel=self.num_parallel,
            max_wait=self.max_wait,
        )


def read_world(request: Request, config: Config) -> OtherWorld:
    """Parse the scenario in a query; the default strategy is the config's.

    Raises:
        InvalidBody: the strategy, server or GPU does not exist, or a number is invalid.
    """
    servers = {name for name, server in config.servers.items() if server.enabled}
    add, off = _read_server(request, "add", servers), _read_server(request, "off", servers)
    add_gpu = _read_gpu(request)
    if off is not None and len(servers) + (add is not None) + (add_gpu is not None) == 1:
        raise InvalidBody("no server would be left")
    return OtherWorld(
        strategy=read_choice(request, "strategy", STRATEGIES) or config.routing_strategy,
        add=add,
        add_gpu=add_gpu,
        off=off,
        put=_read_put(request, servers),
        num_parallel=_read_slots(request),
        max_wait=_read_wait(request),
    )


def _read_server(request: Request, name: str, servers: set[str]) -> str | None:
    given = request.get_param(name) or None  # an empty form field counts as absent
    if given is not None and given not in servers:
        raise InvalidBody(f"{name}: the config has no enabled server {given[:128]!r}")
    return given


def _read_gpu(request: Request) -> str | None:
    named, figures = request.get_param("add_gpu") or None, request.get_param("add_gpu_figures") or None
    if named is not None and figures is not None:
        raise InvalidBody("add_gpu and add_gpu_figures are the same GPU given twice: leave one of them empty")
    given = (named or figures or "").replace(" ", "") or None
    if given is not None and read_gpu(given) is None:
        raise InvalidBody(f"add_gpu must be one of {', '.join(GPUS)}, or GIB,GB/s,TFLOP/s such as 24,1010,82.6")
    return given


def _read_put(request: Request, servers: set[str]) -> str | None:
    given = request.get_param("put") or None
    if given is None:
        return None
    server, _, model = given[:1024].partition("=")
    if server.strip() not in servers or not model.strip():
        raise InvalidBody("put must be SERVER=MODEL, of an enabled server of the config")
    return f"{server.strip()}={model.strip()}"


def _read_slots(request: Request) -> int | None:
    named = request.get_param("num_parallel") or None
    return None if named is None else request.get_param_as_int("num_parallel", min_value=1, max_value=1024)


def _read_wait(request: Request) -> float | None:
    named = request.get_param("max_wait") or None
    max_wait = None if named is None else request.get_param_as_float("max_wait", min_value=0.001, max_value=86_400.0)
    if max_wait is not None and not math.isfinite(max_wait):  # the bounds do not exclude nan
        raise InvalidBody("max_wait must be a number of seconds")
    return max_wait
