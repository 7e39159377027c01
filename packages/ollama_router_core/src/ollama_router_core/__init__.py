"""The brain of ollama-router: facts about requests and servers in, decisions with reasons out.

These are the names a program imports from the top. Importing the package imports none of its rooms; a name loads its
room when it is first used, so that a program that only reads model names pays for neither a settings parser nor an
HTTP client. Everything else is imported from its room: the simulator and the fakes from `ollama_router_core.testing`,
translations between dialects from `ollama_router_core.translate`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors see; at run time `__getattr__` finds the same
    from ollama_router_core.access.tokens import (
        mint_token as mint_token,
        verify_token as verify_token,
    )
    from ollama_router_core.api.model_names import canonical_name as canonical_name
    from ollama_router_core.api.requests import (
        ParsedRequest as ParsedRequest,
        RouteRequest as RouteRequest,
        parse_request as parse_request,
    )
    from ollama_router_core.client import (
        AsyncRouterTransport as AsyncRouterTransport,
        RouterTransport as RouterTransport,
    )
    from ollama_router_core.config import (
        Config as Config,
        ExternalHost as ExternalHost,
        Problem as Problem,
        Server as Server,
        default_config as default_config,
        dump_config as dump_config,
        load_config as load_config,
    )
    from ollama_router_core.errors import (
        ConfigError as ConfigError,
        RouterError as RouterError,
    )
    from ollama_router_core.fleet.memory import (
        MemoryEstimate as MemoryEstimate,
        estimate_memory as estimate_memory,
    )
    from ollama_router_core.fleet.snapshot import (
        FleetSnapshot as FleetSnapshot,
        InstalledModel as InstalledModel,
        LoadedModel as LoadedModel,
        ModelFacts as ModelFacts,
        ServerFacts as ServerFacts,
    )
    from ollama_router_core.records.request_record import RequestRecord as RequestRecord
    from ollama_router_core.records.sinks import (
        LogSink as LogSink,
        MemorySink as MemorySink,
        StreamSink as StreamSink,
    )
    from ollama_router_core.responses.usage import (
        Usage as Usage,
        UsageReader as UsageReader,
    )
    from ollama_router_core.routing.decision import (
        Decision as Decision,
        Verdict as Verdict,
    )
    from ollama_router_core.routing.explanation import (
        Question as Question,
        explain as explain,
    )
    from ollama_router_core.routing.forwarding import forward as forward
    from ollama_router_core.routing.selector import decide as decide

    __version__: str

_HOME = {
    "AsyncRouterTransport": "client",
    "Config": "config",
    "ConfigError": "errors",
    "Decision": "routing.decision",
    "ExternalHost": "config",
    "FleetSnapshot": "fleet.snapshot",
    "InstalledModel": "fleet.snapshot",
    "LoadedModel": "fleet.snapshot",
    "LogSink": "records.sinks",
    "MemoryEstimate": "fleet.memory",
    "MemorySink": "records.sinks",
    "ModelFacts": "fleet.snapshot",
    "ParsedRequest": "api.requests",
    "Problem": "config",
    "Question": "routing.explanation",
    "RequestRecord": "records.request_record",
    "RouteRequest": "api.requests",
    "RouterError": "errors",
    "RouterTransport": "client",
    "Server": "config",
    "ServerFacts": "fleet.snapshot",
    "StreamSink": "records.sinks",
    "Usage": "responses.usage",
    "UsageReader": "responses.usage",
    "Verdict": "routing.decision",
    "canonical_name": "api.model_names",
    "decide": "routing.selector",
    "default_config": "config",
    "dump_config": "config",
    "estimate_memory": "fleet.memory",
    "explain": "routing.explanation",
    "forward": "routing.forwarding",
    "load_config": "config",
    "mint_token": "access.tokens",
    "parse_request": "api.requests",
    "verify_token": "access.tokens",
}
"""Each public name and the module it lives in, in the order of `__all__`."""

__all__ = list(_HOME)

if not TYPE_CHECKING:  # else every misspelled name would pass as Any

    def __getattr__(name: str) -> Any:
        """Load a public name's room, or the version of the installed distribution, when it is first asked for."""
        if name == "__version__":
            value: Any = import_module("importlib.metadata").version("ollama-router-core")
        elif name in _HOME:
            value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), "__version__", *__all__})
