"""What the admin routes take and answer, as operations of OpenAPI: the rows of its document."""

from __future__ import annotations

from ollama_router_core.routing.strategies import STRATEGIES
from ollama_router_server.admin.doctor.doctor_resource import DoctorView
from ollama_router_server.admin.openapi_operation import Operation
from ollama_router_server.admin.openapi_people import PEOPLE
from ollama_router_server.admin.openapi_queries import (
    AUDIT_QUERY,
    EXPLAIN_QUERY,
    INCIDENTS_QUERY,
    MOMENT,
    ONE_MORE,
    REQUESTS_QUERY,
    TEXT,
    USAGE_QUERY,
)
from ollama_router_server.admin.operations_resource import NewOperation
from ollama_router_server.admin.request_bodies import NewToken
from ollama_router_server.admin.response_bodies import (
    AuditBody,
    CancelledBody,
    CreatedTokenBody,
    DeletedBody,
    DrainBody,
    ModelUsersBody,
    ObjectBody,
    QueueBody,
)
from ollama_router_server.admin.token_access import ADMINS, EVERYBODY, READERS
from ollama_router_server.admin.usage_export_resource import STEPS
from ollama_router_server.admin.views.about import AboutView
from ollama_router_server.admin.views.config import ConfigView, DiagnosticsView
from ollama_router_server.admin.views.error_reference import ErrorsView
from ollama_router_server.admin.views.history import HistoryView
from ollama_router_server.admin.views.incidents import IncidentsView
from ollama_router_server.admin.views.me import MeView
from ollama_router_server.admin.views.models import ModelDetailView, ModelsView
from ollama_router_server.admin.views.operations import OperationsView, OperationView
from ollama_router_server.admin.views.other_day import OtherDayView
from ollama_router_server.admin.views.overview import OverviewView
from ollama_router_server.admin.views.request_replay import RequestReplayView
from ollama_router_server.admin.views.requests import RequestDetailView, RequestsView
from ollama_router_server.admin.views.series import HOURS, SeriesView
from ollama_router_server.admin.views.server_day import ServerDayView
from ollama_router_server.admin.views.servers import ProbeView, ServerDetailView, ServersView
from ollama_router_server.admin.views.setup_checks import ChecksView
from ollama_router_server.admin.views.usage import BY, MyUsageBody, UsageBody
from ollama_router_server.admin.views.whatif import WhatIfView

__all__ = ["OPERATIONS"]

_ONE = "/router/operations/{id}"

OPERATIONS: tuple[Operation, ...] = (
    *PEOPLE,
    Operation(
        method="get",
        path="/router/usage",
        summary="Requests, tokens, GPU time and cost by user, group, model, server, host and day",
        answer=UsageBody,
        roles=READERS,
        query=USAGE_QUERY,
    ),
    Operation(
        method="get",
        path="/router/usage.csv",
        summary="The same for each day or hour, by one of them",
        answer=None,
        roles=READERS,
        query=(
            ("by", {"enum": list(BY)}),
            ("step", {"enum": list(STEPS)}),
            ("since", MOMENT),
            ("before", MOMENT),
        ),
        refused=(429,),
    ),
    Operation(
        method="get",
        path="/router/audit",
        summary="Who changed what",
        answer=AuditBody,
        query=AUDIT_QUERY,
    ),
    Operation(method="get", path="/router/doctor", summary="What is wrong, and what mends it", answer=DoctorView),
    Operation(
        method="get",
        path="/router/series",
        summary="Requests a second, waiting ones and times to the first token, step by step",
        answer=SeriesView,
        roles=READERS,
        query=(("span", {"enum": list(HOURS), "description": "Minutes of an hour, or hours of a day or week."}),),
    ),
    Operation(
        method="get",
        path="/router/history",
        summary="One day: which models servers answered with, what ran, waited, failed, went wrong and was changed",
        answer=HistoryView,
        roles=READERS,
        query=(("day", {"type": "string", "description": "As `2026-11-28`, UTC. Default: today."}),),
    ),
    Operation(
        method="get",
        path="/router/history/whatif",
        summary="One day as it would have been by another strategy, or with one server more or less",
        answer=OtherDayView,
        query=(
            ("day", {"type": "string", "description": "As `2026-11-28`, UTC. Default: today."}),
            ("strategy", {"enum": ["", *STRATEGIES]}),
            *ONE_MORE,
        ),
    ),
    Operation(
        method="get",
        path="/router/incidents",
        summary="What went wrong and when: those active at any moment between `since` and `before`",
        answer=IncidentsView,
        roles=READERS,
        query=INCIDENTS_QUERY,
    ),
    Operation(
        method="get",
        path="/router/usage/users",
        summary="Who used a model in the last seven days",
        answer=ModelUsersBody,
        query=(("model", TEXT),),
    ),
    Operation(method="get", path="/router/me", summary="What the asking user may do", answer=MeView, roles=EVERYBODY),
    Operation(
        method="get",
        path="/router/me/checks",
        summary="What has to be true before the asking user gets an answer",
        answer=ChecksView,
        roles=EVERYBODY,
    ),
    Operation(
        method="get",
        path="/router/me/usage",
        summary="What the asking user's requests add up to",
        answer=MyUsageBody,
        roles=EVERYBODY,
        query=(("days", {"type": "integer", "minimum": 1, "maximum": 366}),),
    ),
    Operation(
        method="post",
        path="/router/me/tokens",
        summary="Give the asking user one more token",
        body=NewToken,
        answer=CreatedTokenBody,
        status=201,
        roles=EVERYBODY,
        refused=(409, 413),
    ),
    Operation(
        method="delete",
        path="/router/me/tokens/{token}",
        summary="End a token of the asking user",
        answer=DeletedBody,
        roles=EVERYBODY,
        refused=(404,),
    ),
    Operation(
        method="get",
        path="/router/overview",
        summary="What runs, what waits, what needs attention",
        answer=OverviewView,
        roles=READERS,
    ),
    Operation(
        method="get",
        path="/router/status",
        summary="The known state of every server",
        answer=ObjectBody,
        roles=READERS,
    ),
    Operation(
        method="get",
        path="/router/explain",
        summary="Which server would get a request, and why",
        answer=ObjectBody,
        roles=READERS,
        query=EXPLAIN_QUERY,
        refused=(404,),
    ),
    Operation(
        method="get",
        path="/router/queue",
        summary="What waits, by model",
        answer=QueueBody,
        roles=EVERYBODY,
    ),
    Operation(
        method="get",
        path="/router/about",
        summary="Version, licences and the data that is kept",
        answer=AboutView,
        roles=EVERYBODY,
    ),
    Operation(
        method="get",
        path="/router/errors",
        summary="What each error code means, and what to do",
        answer=ErrorsView,
        roles=EVERYBODY,
    ),
    Operation(
        method="get",
        path="/router/config",
        summary="The config in force, masked; why a newer one does not hold, and what waits for a restart",
        answer=ConfigView,
        roles=ADMINS,
    ),
    Operation(
        method="get",
        path="/router/diagnostics",
        summary="Program, config, servers and log as a file for who is asked for help; nothing of users",
        answer=DiagnosticsView,
        roles=ADMINS,
    ),
    Operation(
        method="get",
        path="/router/requests",
        summary="Requests in progress, and those of the log, the newest first; users see their own",
        answer=RequestsView,
        roles=EVERYBODY,
        query=REQUESTS_QUERY,
    ),
    Operation(
        method="get",
        path="/router/requests/{id}",
        summary="One request: its phases, and the decision of then",
        answer=RequestDetailView,
        roles=EVERYBODY,
        refused=(404,),
    ),
    Operation(
        method="get",
        path="/router/requests/{id}/replay",
        summary="Where a request of the log would go now, by each strategy",
        answer=RequestReplayView,
        roles=READERS,
        refused=(400, 404),
    ),
    Operation(
        method="post",
        path="/router/requests/{id}/cancel",
        summary="End a request in progress; users end their own",
        answer=CancelledBody,
        roles=frozenset({"admin", "user"}),
        refused=(404,),
    ),
    Operation(method="get", path="/router/servers", summary="All servers", answer=ServersView, roles=READERS),
    Operation(
        method="get",
        path="/router/servers/{name}",
        summary="One server",
        answer=ServerDetailView,
        roles=READERS,
        refused=(404,),
    ),
    Operation(
        method="get",
        path="/router/servers/{name}/history",
        summary="When a server was down, suspended or draining in the last 24 hours",
        answer=ServerDayView,
        roles=READERS,
        refused=(404,),
    ),
    *(
        Operation(
            method="post",
            path=f"/router/servers/{{name}}/{verb}",
            summary=summary,
            answer=DrainBody,
            refused=(404,),
        )
        for verb, summary in (("drain", "Send a server no new requests"), ("undrain", "Send it requests again"))
    ),
    Operation(
        method="post",
        path="/router/servers/{name}/probe",
        summary="Ask a server now, for its models too",
        answer=ProbeView,
        refused=(404,),
    ),
    Operation(
        method="get",
        path="/router/models",
        summary="The models that the asking user may use",
        answer=ModelsView,
        roles=EVERYBODY,
    ),
    Operation(
        method="get",
        path="/router/models/{name}",
        summary="One model, server by server",
        answer=ModelDetailView,
        roles=READERS,
        refused=(404,),
    ),
    Operation(
        method="get",
        path="/router/operations",
        summary="Operations on models, the newest first",
        answer=OperationsView,
        query=(("limit", {"type": "integer", "minimum": 1, "maximum": 200}),),
    ),
    Operation(
        method="post",
        path="/router/operations",
        summary="Pull, load, unload, copy or delete a model on servers",
        body=NewOperation,
        answer=OperationView,
        status=202,
        refused=(404, 413),
    ),
    Operation(method="get", path=_ONE, summary="One operation", answer=OperationView, refused=(404,)),
    Operation(method="delete", path=_ONE, summary="End an operation", answer=CancelledBody, refused=(404, 409)),
    Operation(
        method="post",
        path=f"{_ONE}/retry",
        summary="Do it again where it is not done",
        answer=OperationView,
        status=202,
        refused=(404, 409),
    ),
    Operation(
        method="get",
        path="/router/whatif",
        summary="The router's own requests, decided by another strategy, or with one server more or less",
        answer=WhatIfView,
        query=(
            ("strategy", {"enum": ["", *STRATEGIES]}),
            *ONE_MORE,
            ("days", {"type": "integer", "minimum": 1, "maximum": 30}),
        ),
    ),
    Operation(method="get", path="/router/openapi.json", summary="This description", answer=ObjectBody),
)
