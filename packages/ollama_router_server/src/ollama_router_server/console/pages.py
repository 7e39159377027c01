"""The pages, and the values that fill them, from the router's own views."""

from __future__ import annotations

from contextlib import suppress

from falcon.asgi import Request
from msgspec import Struct

from ollama_router_core.access.limits import day_of
from ollama_router_core.errors import StorageUnavailable
from ollama_router_core.fleet.gpus import GPUS
from ollama_router_core.routing.explanation import Question, explain
from ollama_router_core.routing.strategies import STRATEGIES
from ollama_router_server.admin.about_resource import find_about
from ollama_router_server.admin.config_resource import find_config
from ollama_router_server.admin.doctor.doctor_resource import doctor_view
from ollama_router_server.admin.fleet_resource import KV_TYPES
from ollama_router_server.admin.groups_resource import list_groups
from ollama_router_server.admin.history_resource import find_day
from ollama_router_server.admin.json_bodies import user_of
from ollama_router_server.admin.links import base_url
from ollama_router_server.admin.me_resource import find_checks, my_usage
from ollama_router_server.admin.operations_resource import newest_operations
from ollama_router_server.admin.overview_resource import (
    find_model,
    find_models,
    find_overview,
    find_server,
    find_server_day,
    find_servers,
)
from ollama_router_server.admin.query_parameters import read_choice, read_moment
from ollama_router_server.admin.request_replay_resource import replay_request
from ollama_router_server.admin.requests_resource import find_detail, list_requests
from ollama_router_server.admin.series_resource import Series, read_span
from ollama_router_server.admin.sessions_resource import list_sessions
from ollama_router_server.admin.token_access import ADMINS, EVERYBODY, READERS, check_role
from ollama_router_server.admin.usage_resource import find_steps, find_usage, read_usage_range
from ollama_router_server.admin.users_resource import list_users
from ollama_router_server.admin.views.active import active_views
from ollama_router_server.admin.views.clients import client_views
from ollama_router_server.admin.views.error_reference import errors_view
from ollama_router_server.admin.views.me import me_view
from ollama_router_server.admin.views.models import model_views
from ollama_router_server.admin.views.requests import request_view
from ollama_router_server.admin.views.rights import group_rights_view, rights_view
from ollama_router_server.admin.views.setup_checks import first_model
from ollama_router_server.admin.views.usage_steps import STACKS
from ollama_router_server.admin.whatif_resource import WhatIf
from ollama_router_server.console.charts import models_of, strip_of
from ollama_router_server.console.hour_chart import hour_of
from ollama_router_server.console.page import Page, Values
from ollama_router_server.console.playground import PLAYERS, expected_start
from ollama_router_server.console.rendering import Renderer
from ollama_router_server.console.request_columns import columns_shown, switches
from ollama_router_server.console.series_chart import chart_of
from ollama_router_server.console.shared_parts import SharedParts
from ollama_router_server.console.stacked_chart import stacked
from ollama_router_server.console.timeline import timelines
from ollama_router_server.coordination.worker_sync import WorkerSync
from ollama_router_server.services import Services
from ollama_router_server.storage.audit_log import AuditFilter
from ollama_router_server.storage.identities import Role
from ollama_router_server.storage.log_filter import LogFilter

__all__ = ["Pages", "pages"]

_DAY = 86_400.0
_HOURLY = 2
_FIRST_ROWS = 60
_MOST_ROWS = 200
_MOST_PLACED = 20
"""The most own requests with a forecast: each costs one among all servers."""


class Pages(Struct, frozen=True):
    """Build the values of every page from the router's own views."""

    services: Services
    sync: WorkerSync
    whatifs: WhatIf
    series: Series

    async def start(self, request: Request) -> Values:
        """Return checks, usage and client settings for Start."""
        user = user_of(request)
        me = await me_view(self.services, request)
        base = base_url(self.services, request)
        models = model_views(self.services, user.grants if user.role == "user" else None)
        model = first_model(models.models)
        usage = await my_usage(self.services, user, 7)
        return {
            "me": me,
            "usage": usage,
            "base": base,
            "view": find_checks(self.services, request, user, usage),
            "asks": user.role in PLAYERS,
            "warm": model is not None and bool(model.loaded_on),
            "clients": client_views(base, model.name if model is not None and model.loaded_on else None),
            **await self.in_progress(request),
        }

    async def in_progress(self, request: Request) -> Values:
        """List the user's requests in flight, with their current places: the live part of Start."""
        user = user_of(request)
        own = [row for row in self.sync.active_requests() if row["user"] == user.name]
        waiting = [row["id"] for row in own if row["state"] == "waiting"][:_MOST_PLACED]
        placed = {id_: found[0] for id_ in waiting if (found := self.sync.find_active(id_)) is not None}
        return {"active": active_views(self.services, [placed.get(row["id"], row) for row in own])}

    async def now(self, request: Request) -> Values:
        """Return what runs, what waits and what needs attention, with the last hour, day or week."""
        view = await find_overview(self.services, request)
        values = {"view": view, "hour": hour_of(view.last_hour.minutes)}
        span = read_span(request)
        with suppress(StorageUnavailable):
            series = await self.series.find(span)
            return {**values, "span": span, "series": series, "chart": chart_of(series)}
        return {**values, "span": span, "series": None, "chart": None}

    async def requests(self, request: Request) -> Values:
        """List the log and requests in flight."""
        view = await list_requests(self.services, request)
        shown = columns_shown(request.get_param("columns"))
        return {
            "view": view,
            "rows": sorted((*view.active, *view.requests), key=lambda row: row.started_at, reverse=True),
            "columns": shown,
            "switches": switches(shown),
            "workers": self.sync.workers,
            "since": read_moment(request, "since"),
            "before": read_moment(request, "before"),
            "query": {name: str(value) for name, value in request.params.items() if name != "cursor" and value},
        }

    async def request(self, request: Request, id: str) -> Values:  # noqa: A002 - the route's name
        """Return one request: where its time went and, for admins and viewers on request, where it would go now."""
        view = await find_detail(self.services, request, id)
        replay = None
        if request.get_param("replay") and view.active is None:
            check_role(user_of(request), READERS)
            replay = await replay_request(self.services, request, id)
        return {
            "view": view,
            "timeline": timelines(view.phases, view.expected),
            "base": base_url(self.services, request),
            "replay": replay,
            "most": _FIRST_ROWS,
            "title": f"Request {id}",
        }

    async def servers(self, request: Request) -> Values:
        """Return all servers; a single one in full."""
        view = await find_servers(self.services, request)
        if len(view.servers) != 1:
            return {"view": view, "only": None, "day": None}
        name = view.servers[0].name
        only = await find_server(self.services, request, name)
        return {"view": view, "only": only, "day": await find_server_day(self.services, request, name)}

    async def server(self, request: Request, name: str) -> Values:
        """Return one server."""
        view, day = await find_server(self.services, request, name), await find_server_day(self.services, request, name)
        return {"view": view, "day": day, "title": name, "within": False}

    async def models(self, request: Request) -> Values:
        """List the models that the user may use."""
        return {"view": await find_models(self.services, request)}

    async def model(self, request: Request, name: str) -> Values:
        """Return one model, and where a request for it would go now."""
        found = find_model(self.services, request, name)
        context = request.get_param_as_int("context", min_value=1)
        question = Question(model=found.name, context=context, kv_type=read_choice(request, "kv_type", KV_TYPES))
        services = self.services
        traffic, now = services.admission.view.traffic(), services.clock.monotonic()
        fit = explain(question, traffic, services.config, now=now)
        most = _MOST_ROWS if request.get_param("all") else _FIRST_ROWS
        return {"view": found, "fit": fit, "kv_types": ("", *KV_TYPES), "title": found.name, "most": most}

    async def play(self, request: Request) -> Values:
        """List models to try, loaded ones first."""
        user = user_of(request)
        view = model_views(self.services, user.grants if user.role == "user" else None)
        models = sorted(view.models, key=lambda one: (not one.loaded_on, one.name))
        chosen = (request.get_param("model") or "")[:512] or (models[0].name if models else "")
        return {
            "models": models,
            "aliases": view.aliases,
            "chosen": chosen,
            "expected": next((expected_start(self.services, one) for one in models if one.name == chosen), None),
            "servers": self.worlds()["servers"] if user.role in ADMINS else [],
            "other": (request.get_param("other") or "")[:512],
            "base": base_url(self.services, request),
        }

    async def operations(self, request: Request) -> Values:
        """List operations on models; the address prefills the form."""
        asked = {name: (request.get_param(name) or "")[:512] for name in ("kind", "model", "servers")}
        return {"view": await newest_operations(self.services, 20), "asked": asked}

    async def usage(self, request: Request) -> Values:
        """Return usage by user, group, model, server, host and day."""
        query = read_usage_range(request, self.services.clock.wall())
        found = await find_usage(self.services, query)
        since, until = query.since or 0.0, query.before or self.services.clock.wall()
        step = 3_600 if until - since <= _HOURLY * _DAY else 86_400
        stack = read_choice(request, "stack", STACKS) or "model"
        return {
            "view": found.view,
            "order": query.order,
            "days": None if query.before is not None else round((until - since) / _DAY),
            "stack": stack,
            "chart": stacked(await find_steps(self.services, found, stack, step)),
            "since": since,
            "until": until,
            "step": "hour" if step < _DAY else "day",
            "query": {name: str(value) for name, value in request.params.items() if name not in {"order", "stack"}},
        }

    async def people(self, request: Request) -> Values:
        """List a page of users, with the groups."""
        return {
            "page_of": await list_users(self.services, request),
            "groups": await self.services.groups.page(limit=_MOST_ROWS),
            "query": {name: str(value) for name, value in request.params.items() if name != "after"},
        }

    async def person(self, request: Request, name: str) -> Values:
        """Return one user: rights with reasons, sessions, and recent requests."""
        view = await rights_view(self.services, name)
        groups = (await self.services.groups.page(limit=_MOST_ROWS)).groups
        recent = await self.services.request_log.list(LogFilter(user=name), limit=10)
        use = await self.services.users.recent_use([name], today=day_of(self.services.clock.wall()))
        return {
            "view": view,
            "own": {one.name: one.value for one in view.rights if one.origin == "own"},
            "groups": sorted({*(one.name for one in groups), *filter(None, [view.group])}),
            "sessions": (await list_sessions(self.services, request, name)).sessions,
            "recent": [request_view(one) for one in recent],
            "requests_7d": use[name].requests,
            "title": name,
        }

    async def groups(self, request: Request) -> Values:
        """List a page of groups with their usage."""
        query = {name: str(value) for name, value in request.params.items() if name != "after"}
        return {"page_of": await list_groups(self.services, request), "query": query}

    async def group(self, _request: Request, name: str) -> Values:
        """Return one group and its effect on members."""
        view = await group_rights_view(self.services, name)
        own = {one.name: one.value for one in view.rights if one.origin == "group"}
        return {"view": view, "own": own, "title": name}

    async def whatif(self, request: Request) -> Values:
        """Return the form, and the answer of a what-if question if the query has one."""
        asked = "strategy" in request.params
        view = await self.whatifs.ask(request) if asked else None
        return {"view": view, "chosen_days": request.get_param_as_int("days"), **self.worlds()}

    async def doctor(self, request: Request) -> Values:
        """Return the findings of the doctor."""
        return {"view": await doctor_view(self.services, request)}

    async def about(self, request: Request) -> Values:
        """Return version, licences and stored data; for admins the config's state, and its text on request."""
        user = user_of(request)
        services = self.services
        asked = user.role == "admin" and request.get_param("config") is not None
        return {
            "view": await find_about(services, request),
            "config": await find_config(services, request) if asked else None,
            "problem": services.running_config.problem,
            "needs_restart": services.running_config.needs_restart,
        }

    async def errors(self, _request: Request) -> Values:
        """Return the error reference."""
        return {"view": errors_view()}

    async def history(self, request: Request) -> Values:
        """Return a day with its incidents; for admins also the audit trail and a what-if scenario."""
        user = user_of(request)
        view = await find_day(self.services, request)
        strip = strip_of(view.lanes, view.moments, view.incidents, begin=view.begin)
        values = {"view": view, "strip": strip, "other": None, **self.worlds()}
        if "strategy" in request.params:
            check_role(user, ADMINS)
            values["other"] = other = await self.whatifs.ask_day(request)
            values["other_strip"] = strip_of(other.lanes, other.moments, models=models_of(view.lanes))
        entries = await self.services.audit.list(AuditFilter(), limit=200) if user.role in ADMINS else ()
        return {**values, "entries": entries}

    def worlds(self) -> Values:
        """List the choices of a what-if scenario: strategies, servers and GPUs."""
        servers = sorted(name for name, one in self.services.config.servers.items() if one.enabled)
        return {"strategies": list(STRATEGIES), "servers": servers, "gpus": GPUS}


def pages(build: Pages, renderer: Renderer, parts: SharedParts) -> dict[str, Page]:
    """Return every page by its route below `/console/`."""

    def page(name: str, title: str, roles: frozenset[Role], *, live: bool = False) -> Page:
        return Page(renderer, name, title, getattr(build, name), roles=roles, parts=parts if live else None)

    return {
        "": Page(renderer, "start", "Start", build.start, roles=EVERYBODY, parts=parts, build_part=build.in_progress),
        "now": page("now", "Now", READERS, live=True),
        "requests": page("requests", "Requests", EVERYBODY, live=True),
        "requests/{id}": page("request", "Request", EVERYBODY, live=True),
        "servers": page("servers", "Servers", READERS, live=True),
        "servers/{name}": page("server", "Server", READERS, live=True),
        "models": page("models", "Models", EVERYBODY),
        "models/{name:path}": page("model", "Model", READERS),
        "play": page("play", "Playground", PLAYERS),
        "operations": page("operations", "Operations", ADMINS, live=True),
        "usage": page("usage", "Usage", READERS),
        "people": page("people", "People", ADMINS),
        "people/{name:path}": page("person", "Person", ADMINS),
        "groups": page("groups", "Groups", ADMINS),
        "groups/{name:path}": page("group", "Group", ADMINS),
        "history": page("history", "History", READERS),
        "doctor": page("doctor", "Doctor", ADMINS),
        "whatif": page("whatif", "What if", ADMINS),
        "about": page("about", "About", EVERYBODY),
        "errors": page("errors", "Errors", EVERYBODY),
    }
