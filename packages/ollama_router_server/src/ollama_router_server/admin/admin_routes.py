"""The table of admin routes: for each method and path, its roles, handler, parameters and response."""

from __future__ import annotations

from typing import Final

from ollama_router_server.admin.about_resource import find_about
from ollama_router_server.admin.audit_resource import find_audit
from ollama_router_server.admin.config_resource import find_config
from ollama_router_server.admin.doctor.doctor_resource import doctor_view
from ollama_router_server.admin.fleet_resource import drain, explain_model, find_queue, probe, status_json, undrain
from ollama_router_server.admin.history_resource import find_day
from ollama_router_server.admin.incidents_resource import list_incidents
from ollama_router_server.admin.me_resource import add_my_token, asked_usage, my_checks, revoke_my_token
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
    asked_operations,
    begin_operation,
    cancel_operation,
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
from ollama_router_server.admin.views.config import DiagnosticsView
from ollama_router_server.admin.views.error_reference import ErrorsView, errors_view
from ollama_router_server.admin.views.me import me_view
from ollama_router_server.admin.views.other_day import OtherDayView
from ollama_router_server.admin.views.series import HOURS, SeriesView
from ollama_router_server.admin.views.whatif import WhatIfView

__all__ = ["ACTING", "OPERATIONS"]

_ONE: Final = "/router/operations/{id}"

ACTING: Final[tuple[Operation, ...]] = (
    *PEOPLE,
    get("/router/usage/users", users_of_model, "Who used a model in the last seven days", query=(("model", TEXT),)),
    post(
        "/router/me/tokens",
        add_my_token,
        "Give the asking user one more token",
        EVERYBODY,
        body=NewToken,
        status=201,
        refused=(409,),
    ),
    delete("/router/me/tokens/{token}", revoke_my_token, "End a token of the asking user", EVERYBODY),
    get("/router/requests/{id}", find_detail, "One request: its phases, and its routing decision", EVERYBODY),
    post(
        "/router/requests/{id}/cancel",
        cancel_request,
        "End a request in progress; users end their own",
        frozenset({"admin", "user"}),
    ),
    post("/router/servers/{name}/drain", drain, "Send a server no new requests"),
    post("/router/servers/{name}/undrain", undrain, "Send it requests again"),
    post("/router/servers/{name}/probe", probe, "Ask a server now, for its models too"),
    get(
        "/router/operations",
        asked_operations,
        "Operations on models, the newest first",
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
    get(_ONE, show_operation, "One operation"),
    delete(_ONE, cancel_operation, "End an operation", refused=(409,)),
    post(f"{_ONE}/retry", retry_operation, "Do it again where it is not done", status=202, refused=(409,)),
)
"""What the console's pages do, too, with a session instead of a token, and what they ask for it."""

OPERATIONS: Final[tuple[Operation, ...]] = (
    *ACTING,
    get(
        "/router/usage",
        answer_usage,
        "Requests, tokens, GPU time and cost by user, group, model, server, host and day",
        READERS,
        query=USAGE_QUERY,
    ),
    get(
        "/router/usage.csv",
        None,
        "The same for each day or hour, by one of them",
        READERS,
        query=USAGE_EXPORT_QUERY,
        refused=(429,),
    ),
    get("/router/audit", find_audit, "Who changed what", query=AUDIT_QUERY),
    get("/router/doctor", doctor_view, "What is wrong, and what fixes it"),
    get(
        "/router/series",
        None,
        "Requests a second, waiting ones and times to the first token, step by step",
        READERS,
        answer=SeriesView,
        query=(("span", {"enum": list(HOURS), "description": "Minutes of an hour, or hours of a day or week."}),),
    ),
    get(
        "/router/history",
        find_day,
        "One day: which models servers answered with, what ran, waited, failed, went wrong and was changed",
        READERS,
        query=(DAY,),
    ),
    get(
        "/router/history/whatif",
        None,
        "One day as it would have been by another strategy, or with one server more or less",
        answer=OtherDayView,
        query=(DAY, *OTHER_WORLD),
    ),
    get(
        "/router/incidents",
        list_incidents,
        "What went wrong and when: those active at any moment between `since` and `before`",
        READERS,
        query=INCIDENTS_QUERY,
    ),
    get("/router/me", me_view, "What the asking user may do", EVERYBODY),
    get("/router/me/checks", my_checks, "What has to be true before the asking user gets an answer", EVERYBODY),
    get(
        "/router/me/usage",
        asked_usage,
        "What the asking user's requests add up to",
        EVERYBODY,
        query=(("days", {"type": "integer", "minimum": 1, "maximum": 366}),),
    ),
    get("/router/overview", find_overview, "What runs, what waits, what needs attention", READERS),
    get("/router/status", status_json, "The known state of every server", READERS),
    get(
        "/router/explain",
        explain_model,
        "Which server would get a request, and why",
        READERS,
        query=EXPLAIN_QUERY,
        refused=(404,),
    ),
    get("/router/queue", find_queue, "What waits, by model", EVERYBODY),
    get("/router/about", find_about, "Version, licences and the data that is kept", EVERYBODY),
    get(
        "/router/errors",
        lambda *_: errors_view(),
        "What each error code means, and what to do",
        EVERYBODY,
        answer=ErrorsView,
    ),
    get(
        "/router/config",
        find_config,
        "The config in force, masked; why a newer one is not applied, and what needs a restart",
    ),
    get(
        "/router/diagnostics",
        None,
        "Program, config, servers and log as a file for support; no user data",
        answer=DiagnosticsView,
    ),
    get(
        "/router/requests",
        list_requests,
        "Requests in progress, and those of the log, the newest first; users see their own",
        EVERYBODY,
        query=REQUESTS_QUERY,
    ),
    get(
        "/router/requests/{id}/replay",
        replay_request,
        "Where a request of the log would go now, by each strategy",
        READERS,
    ),
    get("/router/servers", find_servers, "All servers", READERS),
    get("/router/servers/{name}", find_server, "One server", READERS),
    get(
        "/router/servers/{name}/history",
        find_server_day,
        "When a server was down, suspended or draining in the last 24 hours",
        READERS,
    ),
    get("/router/models", find_models, "The models that the asking user may use", EVERYBODY),
    get("/router/models/{name:path}", find_model, "One model, server by server", READERS),
    get(
        "/router/whatif",
        None,
        "The router's own requests, decided by another strategy, or with one server more or less",
        answer=WhatIfView,
        query=(*OTHER_WORLD, ("days", {"type": "integer", "minimum": 1, "maximum": 30})),
    ),
    get("/router/openapi.json", None, "This description", answer=ObjectBody),
)
"""All of them."""
