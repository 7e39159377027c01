"""Requests over HTTP, logged and in flight: `GET /router/requests` and `GET /router/requests/{id}`."""

from __future__ import annotations

import math
import re
from collections.abc import Container
from contextlib import suppress
from typing import Final, get_args

import falcon
from falcon.asgi import Request
from msgspec.structs import replace

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.errors import InvalidBody, StorageUnavailable
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.admin.json_bodies import actor_of, user_of
from ollama_router_server.admin.query_parameters import read_choice, read_moment
from ollama_router_server.admin.response_bodies import CancelledBody
from ollama_router_server.admin.views.active import ActiveView, active_views
from ollama_router_server.admin.views.request_so_far import detail_so_far
from ollama_router_server.admin.views.requests import RequestDetailView, RequestsView, request_detail, request_view
from ollama_router_server.services import Services
from ollama_router_server.storage.identities import UnknownGroup, User
from ollama_router_server.storage.log_filter import Cursor, Ending, LogFilter
from ollama_router_server.storage.request_log import LogPage

__all__ = ["cancel_request", "find_detail", "find_request", "list_requests"]

_ID = re.compile(r"[0-9a-f]{28}")
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_CURSOR = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)-([0-9a-f]{28})")
_MOST: Final = 200
_LARGEST: Final = 2**52
_LONGEST_TEXT: Final = 200
_AROUND: Final = 10.0
"""The most seconds between a request's start and the time in its id."""


async def list_requests(services: Services, request: Request) -> RequestsView:
    """List a page of the log, as the query selects, and requests in flight; users see only their own.

    Raises:
        InvalidBody: a parameter is invalid.
    """
    user = user_of(request)
    own = user.name if user.role == "user" else request.get_param("user") or None
    chosen = LogFilter(
        user=own,
        group=request.get_param("group") or None,
        model=request.get_param("model") or None,
        server=request.get_param("server") or None,
        since=read_moment(request, "since"),
        before=read_moment(request, "before"),
        ending=read_choice(request, "ending", get_args(Ending)),
        slower_than=_slower_than(request),
        text=_text(request),
    )
    limit = request.get_param_as_int("limit", min_value=1, max_value=_MOST) or 50
    cursor = _cursor(request)
    page = await services.request_log.page(_narrowed(chosen), after=cursor, limit=limit)
    is_first = cursor is None
    ended = {one.id for one in page.records}
    return RequestsView(
        active=_active(services, chosen, ended, await _members(services, chosen)) if is_first else [],
        requests=[request_view(record) for record in page.records],
        next=None if page.next is None else f"{page.next.started_at:.9f}-{page.next.id}",
        searched_back_to=page.searched_back_to,
        about=await _about(services, chosen, page) if is_first else None,
    )


async def _members(services: Services, chosen: LogFilter) -> Container[str | None] | None:
    """Return the members of the group in the filter; None without one."""
    if chosen.group is None:
        return None
    with suppress(UnknownGroup):
        return frozenset((await services.groups.show(chosen.group)).members)
    return ()


async def _about(services: Services, chosen: LogFilter, page: LogPage) -> int | None:
    """Return the number of matching rows: from the page if it is the only one, else from the totals."""
    return len(page.records) if page.next is None else await services.request_log.count(chosen)


def _narrowed(chosen: LogFilter) -> LogFilter:
    """Narrow the filter to about the time in an id, if its text is an id."""
    if chosen.text is None or not _ID.fullmatch(chosen.text):
        return chosen
    began = _began(chosen.text)
    since, before = max(chosen.since or 0.0, began - _AROUND), min(chosen.before or math.inf, began + _AROUND)
    return replace(chosen, since=since, before=before)


async def find_detail(services: Services, request: Request, id: str) -> RequestDetailView:  # noqa: A002 - the route's name
    """Return one request, complete or in flight; users find only their own.

    If another worker has it, it may have ended within the last second, so check the log first.

    Raises:
        HTTPNotFound: no request has this id, or it is another user's.
    """
    user, found = user_of(request), services.worker_news.joined.find_active(id)
    if found is None:
        return request_detail(await find_request(services, id, user))
    row, record = found
    if record is None:
        with suppress(falcon.HTTPNotFound, StorageUnavailable):
            return request_detail(await find_request(services, id, user))
    if user.role == "user" and row["user"] != user.name:
        raise _no_such_request()
    (active,) = active_views(services, [row])
    return detail_so_far(active, record)


async def find_request(services: Services, request_id: str, user: User) -> RequestRecord:
    """Return one row of the log, or one that this worker has not written yet; users find only their own.

    Raises:
        HTTPNotFound: the row does not exist, or is another user's.
    """
    record = services.sink.find(request_id)
    if record is None and _ID.fullmatch(request_id):
        began = _began(request_id)
        record = await services.request_log.find(request_id, since=began - _AROUND, before=began + _AROUND)
    if record is None or (user.role == "user" and record.user != user.name):
        raise _no_such_request()
    return record


def _no_such_request() -> falcon.HTTPNotFound:
    text = "no such request is in progress here, and the request log has none"
    return falcon.HTTPNotFound(title="no such request", description=text)


def _began(request_id: str) -> float:
    """Return the start of a request from its id, whose first 12 digits are milliseconds since 1970."""
    return int(request_id[:12], 16) / 1000


def _active(
    services: Services, chosen: LogFilter, ended: Container[str], members: Container[str | None] | None
) -> list[ActiveView]:
    """List requests in flight; they match no outcome and no past time range.

    The rows of other workers are up to a second old, so skip requests that are in the log by now.
    """
    if chosen.ending is not None or chosen.before is not None:
        return []
    wanted = None if chosen.model is None else canonical_name(chosen.model)
    return [
        one
        for one in active_views(services, services.worker_news.joined.active_requests(), chosen.user)
        if one.id not in ended
        and (members is None or one.user in members)
        and chosen.server in {None, one.server}
        and (chosen.text is None or _is_told(one, chosen.text.lower()))
        and (wanted is None or (one.model is not None and canonical_name(one.model) == wanted))
        and one.seconds * 1000 > (chosen.slower_than or -math.inf)
    ]


def _is_told(one: ActiveView, text: str) -> bool:
    return text in "\n".join(filter(None, (one.id, one.user, one.speaker, one.model, one.server, one.path))).lower()


async def cancel_request(services: Services, request: Request, id: str) -> CancelledBody:  # noqa: A002
    """Cancel a request in flight; users cancel only their own.

    Its client gets an error in its API's format; its row names the user who cancelled it.

    Raises:
        HTTPNotFound: no request of this id is in flight, or it is another user's.
    """
    user = user_of(request)
    rows = [row for row in services.worker_news.joined.active_requests() if row["id"] == id]
    if not rows or (user.role == "user" and rows[0]["user"] != user.name):
        raise falcon.HTTPNotFound(title="no such request", description="no such request is in progress")
    services.worker_news.cancel(id, by=user.name)
    await services.audit.record(actor_of(request), "request.cancel", id, user=rows[0]["user"])
    return CancelledBody(id=id, cancelled=True)


def _slower_than(request: Request) -> float | None:
    text = request.get_param("slower_than")
    if not text:
        return None
    number = float(text) if _NUMBER.fullmatch(text) else math.inf
    if number > _LARGEST:
        raise InvalidBody("slower_than must be a number that is not negative")
    return number


def _text(request: Request) -> str | None:
    text = request.get_param("text") or None
    if text is not None and (len(text) > _LONGEST_TEXT or "\0" in text):
        raise InvalidBody(f"text must be at most {_LONGEST_TEXT} characters without NUL")
    return text


def _cursor(request: Request) -> Cursor | None:
    text = request.get_param("cursor")
    if not text:
        return None
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise InvalidBody("cursor must be the `next` of another page")
    return Cursor(float(found[1]), found[2])
