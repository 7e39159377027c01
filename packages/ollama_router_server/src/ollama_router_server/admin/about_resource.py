"""The program and the data that it stores: `GET /router/about`."""

from __future__ import annotations

import asyncio
import platform
import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageMetadata, PackageNotFoundError, metadata, requires, version
from typing import Final

from falcon.asgi import Request

from ollama_router_server.admin.json_bodies import user_of
from ollama_router_server.admin.token_access import READERS
from ollama_router_server.admin.views.about import AboutView, LibraryView, RunningView, about_view
from ollama_router_server.services import Services

__all__ = ["find_about"]

_OURS: Final = ("ollama-router-core", "ollama-router-server")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_LICENCE: Final = "License :: OSI Approved :: "
_LONGEST_LICENCE: Final = 60
"""Characters; some packages put the whole text into the name field."""


async def find_about(services: Services, request: Request) -> AboutView:
    """Return version, licences and stored data; for viewers and admins also how the router runs."""
    view = about_view(
        services.config,
        version=version("ollama-router-server"),
        python=platform.python_version(),
        database=services.database_url.partition(":")[0].partition("+")[0],
        libraries=await asyncio.to_thread(_libraries),
    )
    return view.model_copy(update={"running": _running(services)}) if user_of(request).role in READERS else view


def _running(services: Services) -> RunningView:
    figures, sync = services.worker_news.figures(), services.worker_news.sync
    heard, workers = (1, services.coordination.size) if sync is None else sync.workers
    return RunningView(
        workers=workers,
        workers_heard=heard,
        log_pending=figures["pending"],
        log_dropped=figures["dropped"],
        database_answers=services.sink.healthy,
    )


@cache
def _libraries() -> tuple[LibraryView, ...]:
    """List the installed libraries that our packages require; cached."""
    names = {found[0] for ours in _OURS for asked in requires(ours) or () if (found := _NAME.match(asked))}
    return tuple(_installed(names - {*_OURS}))


def _installed(names: set[str]) -> Iterator[LibraryView]:
    for name in names:
        try:
            package = metadata(name)
        except PackageNotFoundError:  # of an extra, or for another system
            continue
        yield LibraryView(name=package["Name"], version=package["Version"], licence=_licence(package))


def _licence(package: PackageMetadata) -> str | None:
    """Return the licence from the package's metadata: an expression, a classifier, or a short text."""
    classifiers = [
        one.removeprefix(_LICENCE) for one in package.get_all("Classifier") or () if one.startswith(_LICENCE)
    ]
    text = package.get_all("License") or [""]
    short = text[0] if len(text[0]) <= _LONGEST_LICENCE else ""
    return (package.get_all("License-Expression") or [""])[0] or ", ".join(classifiers) or short or None
