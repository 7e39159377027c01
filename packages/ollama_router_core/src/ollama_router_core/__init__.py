"""The brain of ollama-router: facts about requests and servers in, decisions with reasons out.

Belongs here: the names a program imports from the top, each with the room it lives in.
Does not belong here: code. Importing this package imports none of its rooms; a name loads its room when it is first
used, so that a program that only reads model names does not pay for a settings parser or an HTTP client.

The simulator and the fakes are in `ollama_router_core.testing`, translations between dialects in
`ollama_router_core.translate`; they are imported from there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors see; at run time `__getattr__` finds the same
    from ollama_router_core.access import *
    from ollama_router_core.client import *
    from ollama_router_core.config import (
        Config as Config,
        ExternalHost as ExternalHost,
        HostedModel as HostedModel,
        Limits as Limits,
        Logging as Logging,
        MemoryPattern as MemoryPattern,
        ModelSettings as ModelSettings,
        Problem as Problem,
        Server as Server,
        Strategy as Strategy,
        default_config as default_config,
        dump_config as dump_config,
        load_config as load_config,
    )
    from ollama_router_core.decision import *
    from ollama_router_core.dialects import *
    from ollama_router_core.endpoints import *
    from ollama_router_core.errors import *
    from ollama_router_core.explanation import *
    from ollama_router_core.fleet import *
    from ollama_router_core.forwarding import *
    from ollama_router_core.gather import *
    from ollama_router_core.limits import *
    from ollama_router_core.memory import (
        MemoryEstimate as MemoryEstimate,
        MemorySource as MemorySource,
        MemoryTerm as MemoryTerm,
        estimate_memory as estimate_memory,
    )
    from ollama_router_core.names import *
    from ollama_router_core.observations import *
    from ollama_router_core.plans import *
    from ollama_router_core.records import *
    from ollama_router_core.requests import *
    from ollama_router_core.selection import (
        Candidate as Candidate,
        Filter as Filter,
        Ranking as Ranking,
        Reason as Reason,
    )
    from ollama_router_core.sinks import *
    from ollama_router_core.strict_json import JsonObject as JsonObject, parse_object as parse_object
    from ollama_router_core.tokens import (
        Token as Token,
        VerifiedTokens as VerifiedTokens,
        hash_token as hash_token,
        mint_token as mint_token,
        verify_token as verify_token,
    )
    from ollama_router_core.usage import *

    __version__: str

_HOME = {
    "Abandoned": "forwarding",
    "AccessError": "errors",
    "Allowance": "limits",
    "AmbiguousCredential": "errors",
    "AmbiguousKey": "errors",
    "Answered": "forwarding",
    "AsyncRouterTransport": "client",
    "Body": "endpoints",
    "BodyTooLarge": "errors",
    "Broken": "forwarding",
    "Candidate": "selection",
    "CanonicalName": "names",
    "CloudRule": "access",
    "Config": "config",
    "ConfigError": "errors",
    "ConnectFailed": "errors",
    "Decision": "decision",
    "ENDPOINTS": "endpoints",
    "Elsewhere": "limits",
    "Endpoint": "endpoints",
    "ExternalHost": "config",
    "Family": "endpoints",
    "Filter": "selection",
    "FleetSnapshot": "fleet",
    "Forbidden": "errors",
    "Forwarding": "forwarding",
    "ForwardingLimits": "forwarding",
    "GiveUp": "forwarding",
    "Grants": "access",
    "HostedModel": "config",
    "InstalledModel": "fleet",
    "InvalidBody": "errors",
    "InvalidCredential": "errors",
    "InvalidGrants": "access",
    "InvalidModelName": "errors",
    "InvalidTarget": "errors",
    "JsonObject": "strict_json",
    "Kind": "endpoints",
    "LimitExceeded": "errors",
    "Limits": "config",
    "LoadedModel": "fleet",
    "LogSink": "sinks",
    "Logging": "config",
    "Match": "endpoints",
    "MemoryEstimate": "memory",
    "MemoryPattern": "config",
    "MemorySink": "sinks",
    "MemorySource": "memory",
    "MemoryTerm": "memory",
    "Meter": "limits",
    "MethodNotAllowed": "errors",
    "MissingCredential": "errors",
    "MissingModel": "errors",
    "ModelFacts": "fleet",
    "ModelIncapable": "errors",
    "ModelName": "names",
    "ModelNotFound": "errors",
    "ModelSettings": "config",
    "NOWHERE": "limits",
    "NoServerFits": "errors",
    "Outcome": "forwarding",
    "Overloaded": "errors",
    "ParsedRequest": "requests",
    "PartlyDone": "errors",
    "Plan": "plans",
    "Problem": "config",
    "Question": "explanation",
    "REJECTIONS": "forwarding",
    "Ranking": "selection",
    "Reason": "selection",
    "RefusedLate": "errors",
    "Rejected": "forwarding",
    "Relay": "forwarding",
    "RequestError": "errors",
    "RequestRecord": "records",
    "Role": "access",
    "RouteRequest": "requests",
    "RouterError": "errors",
    "RouterTransport": "client",
    "Routing": "endpoints",
    "SelectionError": "errors",
    "SendTo": "forwarding",
    "Server": "config",
    "ServerFacts": "fleet",
    "Standing": "limits",
    "StorageUnavailable": "errors",
    "Strategy": "config",
    "StreamSink": "sinks",
    "Token": "tokens",
    "UnknownRoute": "errors",
    "Unreachable": "forwarding",
    "UnsupportedEncoding": "errors",
    "UpstreamDisconnected": "errors",
    "UpstreamError": "errors",
    "UpstreamProtocolError": "errors",
    "UpstreamTimeout": "errors",
    "Usage": "usage",
    "UsageReader": "usage",
    "UserInactive": "errors",
    "Verdict": "decision",
    "VerifiedTokens": "tokens",
    "assigned_place": "decision",
    "canonical_name": "names",
    "check_cloud": "access",
    "check_endpoint": "access",
    "check_expiry": "access",
    "check_host": "access",
    "check_model": "access",
    "check_network": "access",
    "combine_grants": "access",
    "day_of": "limits",
    "decide": "decision",
    "default_config": "config",
    "dump_config": "config",
    "error_body": "dialects",
    "error_tail": "dialects",
    "estimate_memory": "memory",
    "estimate_tokens": "limits",
    "explain": "explanation",
    "family_of_path": "endpoints",
    "find_openai_model": "gather",
    "first_day_of_month": "limits",
    "forget_model": "observations",
    "forward": "forwarding",
    "grants_from_json": "access",
    "grants_to_json": "access",
    "hash_token": "tokens",
    "is_cloud_name": "names",
    "is_model_name": "names",
    "is_stub": "fleet",
    "limit_headers": "limits",
    "load_config": "config",
    "lowest_version": "gather",
    "match_endpoint": "endpoints",
    "may_use_cloud": "access",
    "may_use_host": "access",
    "may_use_model": "access",
    "merge_openai_models": "gather",
    "merge_ps": "gather",
    "merge_status": "gather",
    "merge_tags": "gather",
    "mint_token": "tokens",
    "observe_down": "observations",
    "observe_load_finished": "observations",
    "observe_load_started": "observations",
    "observe_loads_ended": "observations",
    "observe_ps": "observations",
    "observe_show": "observations",
    "observe_tags": "observations",
    "observe_unloaded": "observations",
    "observe_version": "observations",
    "openai_from_tags": "gather",
    "outcome_of_status": "forwarding",
    "parse_model_name": "names",
    "parse_object": "strict_json",
    "parse_request": "requests",
    "plan_for": "plans",
    "standing_of": "limits",
    "stubs": "fleet",
    "verify_token": "tokens",
    "with_facts": "observations",
}
"""Each public name and the room it lives in, in the order of `__all__`."""

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
