"""Query parameters of the admin routes, as OpenAPI schemas by route."""

from __future__ import annotations

from typing import Any, get_args

from ollama_router_core.fleet.gpus import GPUS
from ollama_router_core.routing.strategies import STRATEGIES
from ollama_router_server.admin.fleet_resource import KV_TYPES
from ollama_router_server.admin.query_parameters import DATE
from ollama_router_server.admin.usage_export_resource import STEPS
from ollama_router_server.admin.usage_resource import BUCKETS
from ollama_router_server.admin.views.usage import BY, ORDERS
from ollama_router_server.storage.incident_changes import IncidentKind

__all__ = [
    "AUDIT_QUERY",
    "DAY",
    "EXPLAIN_QUERY",
    "INCIDENTS_QUERY",
    "MOMENT",
    "OTHER_WORLD",
    "REQUESTS_QUERY",
    "TEXT",
    "USAGE_EXPORT_QUERY",
    "USAGE_QUERY",
]

Parameter = tuple[str, dict[str, Any]]
_NUMBER: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 2**52}
MOMENT: dict[str, Any] = {
    "anyOf": [_NUMBER, {"type": "string", "pattern": f"^{DATE}$"}],
    "description": "Seconds since 1970, or a date with or without a time; UTC unless it has an offset.",
}
USAGE_QUERY: tuple[Parameter, ...] = (
    ("since", MOMENT),
    ("before", MOMENT),
    ("user", {"type": "string"}),
    ("by", {"enum": ["", *BY], "description": "The list to return. Default: all."}),
    ("order", {"enum": list(ORDERS)}),
    ("limit", {"type": "integer", "minimum": 1, "description": "Most lines of each list, except the list of days."}),
    (
        "bucket",
        {
            "enum": ["", *BUCKETS],
            "description": "Also return totals per such step, by anything but day; hours by group for at most 7 days. "
            "Parts cover the whole last hour.",
        },
    ),
)
USAGE_EXPORT_QUERY: tuple[Parameter, ...] = (
    ("by", {"enum": list(BY)}),
    ("step", {"enum": list(STEPS)}),
    ("since", MOMENT),
    ("before", MOMENT),
)
AUDIT_QUERY: tuple[Parameter, ...] = (
    ("since", MOMENT),
    ("actor", {"type": "string"}),
    ("action", {"type": "string", "description": "`user.create`, or `user` for every `user.*`."}),
    ("limit", {"type": "integer", "minimum": 1, "maximum": 10_000}),
)

TEXT: dict[str, Any] = {"type": "string"}
DAY: Parameter = ("day", {"type": "string", "description": "A UTC date such as `2026-11-28`. Default: today."})
OTHER_WORLD: tuple[Parameter, ...] = (
    ("strategy", {"enum": ["", *STRATEGIES]}),
    ("add", {"type": "string", "description": "A configured server; adds one like it."}),
    (
        "add_gpu",
        {"type": "string", "description": f"GIB,GB/s,TFLOP/s such as 24,1010,82.6, or one of {', '.join(GPUS)}."},
    ),
    (
        "add_gpu_figures",
        {"type": "string", "description": "Same as `add_gpu`, for a second form field; do not send both."},
    ),
    ("off", {"type": "string", "description": "A configured server; removes it."}),
    ("put", {"type": "string", "description": "SERVER=MODEL: adds the model to the server."}),
    ("num_parallel", {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 1024}, {"const": ""}]}),
    ("max_wait", {"anyOf": [{"type": "number", "minimum": 0.001, "maximum": 86_400}, {"const": ""}]}),
)
REQUESTS_QUERY: tuple[Parameter, ...] = (
    (
        "text",
        {
            "type": "string",
            "maxLength": 200,
            "description": "Text in id, names, path, reason or error; case-insensitive, on SQLite for a to z only.",
        },
    ),
    ("user", TEXT),
    ("group", {"type": "string", "description": "Requests of its current members."}),
    ("model", TEXT),
    ("server", TEXT),
    ("ending", {"enum": ["", "ok", "error", "refused", "client_left", "retried", "fallback", "cold"]}),
    ("slower_than", {"anyOf": [_NUMBER, {"const": ""}], "description": "Milliseconds."}),
    ("since", MOMENT),
    ("before", MOMENT),
    ("cursor", {"type": "string", "description": "`next` of the previous page."}),
    ("limit", {"type": "integer", "minimum": 1, "maximum": 200}),
)
INCIDENTS_QUERY: tuple[Parameter, ...] = (
    ("since", MOMENT),
    ("before", MOMENT),
    ("kind", {"type": "string", "enum": list(get_args(IncidentKind))}),
    ("server", TEXT),
    ("active", {"anyOf": [{"type": "boolean"}, {"const": ""}], "description": "Empty means true."}),
    ("limit", {"type": "integer", "minimum": 1, "maximum": 200}),
)
EXPLAIN_QUERY: tuple[Parameter, ...] = (
    ("model", TEXT),
    ("context", {"type": "integer", "minimum": 1}),
    ("kv_type", {"enum": ["", *KV_TYPES]}),
    ("prompt_tokens", {"type": "integer", "minimum": 0}),
    ("held_by", TEXT),
    ("need", TEXT),
    ("user", TEXT),
    ("all_strategies", {"enum": ["true", "false"]}),
)
