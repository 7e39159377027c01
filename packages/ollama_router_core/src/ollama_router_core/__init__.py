"""The core of ollama-router: pure logic that turns facts about requests and servers into decisions with reasons.

These are the names for import from the top level. Importing the package imports none of its subpackages; a name is
imported on first use, so that a program that only parses model names loads neither a settings parser nor an HTTP
client. Everything else is imported from its subpackage: the simulator and the fakes from `ollama_router_core.testing`,
translation between dialects from `ollama_router_core.translate`.
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
    from ollama_router_core.fleet.memory.estimates import (
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
    "MemoryEstimate": "fleet.memory.estimates",
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
    "estimate_memory": "fleet.memory.estimates",
    "explain": "routing.explanation",
    "forward": "routing.forwarding",
    "load_config": "config",
    "mint_token": "access.tokens",
    "parse_request": "api.requests",
    "verify_token": "access.tokens",
}
"""Each public name and its module, in the order of `__all__`."""

__all__ = list(_HOME)

if not TYPE_CHECKING:  # else every misspelled name would pass as Any

    def __getattr__(name: str) -> Any:
        """Import a public name, or the version of the installed distribution, on first use."""
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
