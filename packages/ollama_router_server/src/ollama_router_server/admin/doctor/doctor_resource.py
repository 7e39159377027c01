"""Findings over HTTP: `GET /router/doctor`."""

from __future__ import annotations

import asyncio
from typing import Literal

from falcon.asgi import Request

from ollama_router_server.admin.doctor.connection_findings import connection_findings
from ollama_router_server.admin.doctor.finding import Installation
from ollama_router_server.admin.doctor.fleet_findings import fleet_findings
from ollama_router_server.admin.doctor.machine_findings import machine_findings
from ollama_router_server.admin.view import View
from ollama_router_server.services import Services

__all__ = ["DoctorView", "FindingView", "doctor_view"]

_GRAVEST = ("error", "warning", "ok")


class FindingView(View):
    """One finding: `subject` is what was checked, `fix` the command to run, if any."""

    subject: str
    severity: Literal["ok", "warning", "error"]
    reason: str
    fix: str | None


class DoctorView(View):
    """Findings, most severe first; `ok` is false if one is an error."""

    ok: bool
    findings: list[FindingView]


async def doctor_view(services: Services, _request: Request) -> DoctorView:
    """Check the router's machine, its known state, and its servers."""
    now = services.clock.wall()
    installed = Installation(
        config=services.config,
        path=None,
        source="the config in use",
        database_url=services.database_url,
        variables=services.environment,
    )
    found = await asyncio.to_thread(lambda: list(machine_findings(installed, now=now)))
    found += [*fleet_findings(services), *await connection_findings(services)]
    return DoctorView(
        ok=not any(one.severity == "error" for one in found),
        findings=[FindingView.from_object(one) for one in sorted(found, key=lambda one: _GRAVEST.index(one.severity))],
    )
