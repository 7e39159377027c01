"""The table of admin routes: for each method and path, its roles, handler, parameters and response."""

from __future__ import annotations

from typing import Final

from ollama_router_server.admin.about_resource import find_about
from ollama_router_server.admin.audit_resource import find_audit
from ollama_router_server.admin.config_resource import DiagnosticsView, find_config
from ollama_router_server.admin.doctor.doctor_resource import doctor_view
from ollama_router_server.admin.fleet_resource import drain, explain_model, find_queue, probe, status_json, undrain
from ollama_router_server.admin.history_resource import find_day
from ollama_router_server.admin.incidents_resource import list_incidents
from ollama_router_server.admin.me_resource import add_my_token, my_checks, revoke_my_token, show_my_usage
from ollama_router_server.admin.openapi_queries import (
    AUDIT_QUERY,
    DAY,
    EXPLAIN_QUERY,
    INCIDENTS_QUERY,
    OTHER_WORLD,
    REQUESTS_QUERY,
    TEXT,
    USAGE_EXPORT_QUERY,
    USAGE_QUERY,
)
from ollama_router_server.admin.operation_row import Operation, delete, get, post
from ollama_router_server.admin.operations_resource import (
    NewOperation,
    begin_operation,
    cancel_operation,
    list_operations,
    retry_operation,
    show_operation,
)
from ollama_router_server.admin.overview_resource import (
    find_model,
    find_models,
    find_overview,
    find_server,
    find_server_day,
    find_servers,
)
from ollama_router_server.admin.people_routes import PEOPLE
from ollama_router_server.admin.request_bodies import NewToken
from ollama_router_server.admin.request_replay_resource import replay_request
from ollama_router_server.admin.requests_resource import cancel_request, find_detail, list_requests
from ollama_router_server.admin.response_bodies import ObjectBody
from ollama_router_server.admin.token_access import EVERYBODY, READERS
from ollama_router_server.admin.usage_resource import answer_usage, users_of_model
from ollama_router_server.admin.views.error_reference import ErrorsView, errors_view
from ollama_router_server.admin.views.me import me_view
from ollama_router_server.admin.views.other_day import OtherDayView
from ollama_router_server.admin.views.series import HOURS, SeriesView
from ollama_router_server.admin.views.whatif import WhatIfView

__all__ = ["ACTING", "OPERATIONS"]

_ONE: Final = "/router/operations/{id}"

ACTING: Final[tuple[Operation, ...]] = (
    *PEOPLE,
    get(
        "/router/usage/users",
        users_of_model,
        "List the users of a model in the last seven days",
        query=(("model", TEXT),),
    ),
    post(
        "/router/me/tokens",
        add_my_token,
        "Create a token for the calling user",
        EVERYBODY,
        body=NewToken,
        status=201,
        refused=(409,),
    ),
    delete("/router/me/tokens/{token}", revoke_my_token, "Revoke a token of the calling user", EVERYBODY),
    get("/router/requests/{id}", find_detail, "Show a request with its phases and its routing decision", EVERYBODY),
    post(
        "/router/requests/{id}/cancel",
        cancel_request,
        "Cancel a request in progress; users only their own",
        frozenset({"admin", "user"}),
    ),
    post("/router/servers/{name}/drain", drain, "Drain a server: send it no new requests"),
    post("/router/servers/{name}/undrain", undrain, "End a server's drain"),
    post("/router/servers/{name}/probe", probe, "Probe a server now, including its models"),
    get(
        "/router/operations",
        list_operations,
        "List operations on models, newest first",
        query=(("limit", {"type": "integer", "minimum": 1, "maximum": 200}),),
    ),
    post(
        "/router/operations",
        begin_operation,
        "Pull, load, unload, copy or delete a model on servers",
        body=NewOperation,
        status=202,
        refused=(404,),
    ),
    get(_ONE, show_operation, "Show one operation"),
    delete(_ONE, cancel_operation, "Cancel an operation", refused=(409,)),
    post(
        f"{_ONE}/retry",
        retry_operation,
        "Retry an operation on the servers where it is not done",
        status=202,
        refused=(409,),
    ),
)
"""Operations that the console also offers, with a session instead of a token, and operations that its pages need."""

OPERATIONS: Final[tuple[Operation, ...]] = (
    *ACTING,
    get(
        "/router/usage",
        answer_usage,
        "Sum requests, tokens, GPU time and cost by user, group, model, server, host and day",
        READERS,
        query=USAGE_QUERY,
    ),
    get(
        "/router/usage.csv",
        None,
        "Export usage as CSV, per day or hour and by one of these",
        READERS,
        query=USAGE_EXPORT_QUERY,
        refused=(429,),
    ),
    get("/router/audit", find_audit, "List changes, with who made them", query=AUDIT_QUERY),
    get("/router/doctor", doctor_view, "Find problems, each with its fix"),
    get(
        "/router/series",
        None,
        "Requests per second, queue length and times to first token, step by step",
        READERS,
        answer=SeriesView,
        query=(("span", {"enum": list(HOURS), "description": "An hour in minutes, or a day or week in hours."}),),
    ),
    get(
        "/router/history",
        find_day,
        "One day: the models in use by server, requests that ran, waited and failed, incidents and changes",
        READERS,
        query=(DAY,),
    ),
    get(
        "/router/history/whatif",
        None,
        "One day replayed with another strategy, or with one server more or less",
        answer=OtherDayView,
        query=(DAY, *OTHER_WORLD),
    ),
    get(
        "/router/incidents",
        list_incidents,
        "List the incidents that were active at any moment between `since` and `before`",
        READERS,
        query=INCIDENTS_QUERY,
    ),
    get("/router/me", me_view, "Show the calling user's permissions and limits", EVERYBODY),
    get("/router/me/checks", my_checks, "Check the conditions for the calling user to get an answer", EVERYBODY),
    get(
        "/router/me/usage",
        show_my_usage,
        "Sum the calling user's requests",
        EVERYBODY,
        query=(("days", {"type": "integer", "minimum": 1, "maximum": 366}),),
    ),
    get(
        "/router/overview",
        find_overview,
        "Show running and waiting requests, and problems that need attention",
        READERS,
    ),
    get("/router/status", status_json, "Show the known state of every server", READERS),
    get(
        "/router/explain",
        explain_model,
        "Explain which server a request would be sent to, and why",
        READERS,
        query=EXPLAIN_QUERY,
        refused=(404,),
    ),
    get("/router/queue", find_queue, "Show the queue by model", EVERYBODY),
    get("/router/about", find_about, "Show the version, licences and stored data", EVERYBODY),
    get(
        "/router/errors",
        lambda *_: errors_view(),
        "List the error codes, with their meaning and what to do",
        EVERYBODY,
        answer=ErrorsView,
    ),
    get(
        "/router/config",
        find_config,
        "Show the config in effect, masked; why a newer one is rejected, and which changes need a restart",
    ),
    get(
        "/router/diagnostics",
        None,
        "Export program, config, servers and log as a file for support; no user data",
        answer=DiagnosticsView,
    ),
    get(
        "/router/requests",
        list_requests,
        "List requests in progress and in the log, newest first; users see only their own",
        EVERYBODY,
        query=REQUESTS_QUERY,
    ),
    get(
        "/router/requests/{id}/replay",
        replay_request,
        "Show which server each strategy would choose now for a request in the log",
        READERS,
    ),
    get("/router/servers", find_servers, "List the servers", READERS),
    get("/router/servers/{name}", find_server, "Show one server", READERS),
    get(
        "/router/servers/{name}/history",
        find_server_day,
        "Show when a server was down, suspended or draining in the last 24 hours",
        READERS,
    ),
    get("/router/models", find_models, "List the models that the calling user may use", EVERYBODY),
    get("/router/models/{name:path}", find_model, "Show one model, server by server", READERS),
    get(
        "/router/whatif",
        None,
        "Replay the router's logged requests with another strategy, or with one server more or less",
        answer=WhatIfView,
        query=(*OTHER_WORLD, ("days", {"type": "integer", "minimum": 1, "maximum": 30})),
    ),
    get("/router/openapi.json", None, "This OpenAPI description", answer=ObjectBody),
)
"""All operations."""
