"""The request log over HTTP: `GET /router/requests` and `GET /router/requests/{id}`; and what runs now."""

from __future__ import annotations

import math
import re
from collections.abc import Container
from contextlib import suppress
from typing import Final, cast, get_args

import falcon
from falcon.asgi import Request
from msgspec.structs import replace

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.errors import InvalidBody, StorageUnavailable
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.admin.json_bodies import actor_of, moment, user_of
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
"""Seconds by which a request's start and the time in its id may differ."""


async def list_requests(services: Services, request: Request) -> RequestsView:
    """List the page of the log that the query asks for, with what is in progress; a plain user's own rows only.

    Raises:
        InvalidBody: a parameter cannot be meant.
    """
    user = user_of(request)
    own = user.name if user.role == "user" else request.get_param("user") or None
    chosen = LogFilter(
        user=own,
        group=request.get_param("group") or None,
        model=request.get_param("model") or None,
        server=request.get_param("server") or None,
        since=moment(request.get_param("since")),
        before=moment(request.get_param("before"), "before"),
        ending=_ending(request),
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
    """Return the users of the requested group; None without one."""
    if chosen.group is None:
        return None
    with suppress(UnknownGroup):
        return frozenset((await services.groups.show(chosen.group)).members)
    return ()


async def _about(services: Services, chosen: LogFilter, page: LogPage) -> int | None:
    """How many rows there are: on the page, where they are all, else as the totals tell."""
    return len(page.records) if page.next is None else await services.request_log.count(chosen)


def _narrowed(chosen: LogFilter) -> LogFilter:
    """Narrow the filter to about the time that is in an id, where one is searched for."""
    if chosen.text is None or not _ID.fullmatch(chosen.text):
        return chosen
    began = _began(chosen.text)
    since, before = max(chosen.since or 0.0, began - _AROUND), min(chosen.before or math.inf, began + _AROUND)
    return replace(chosen, since=since, before=before)


async def find_detail(services: Services, request: Request, id: str) -> RequestDetailView:  # noqa: A002 - the route's name
    """One request whole, as far as it is if it is in progress; a plain user finds the own ones alone.

    One that another worker runs may have ended within the last second: the log knows better.

    Raises:
        HTTPNotFound: there is none of this id, or it is another user's.
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
    """One row of the log, or one that this worker has yet to write; a plain user finds the own ones alone.

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
    """When the request of an id began: its first 12 digits are the milliseconds."""
    return int(request_id[:12], 16) / 1000


def _active(
    services: Services,
    chosen: LogFilter,
    ended: Container[str],
    members: Container[str | None] | None,
) -> list[ActiveView]:
    """List requests in progress; they have no ending yet, and belong to no time that is over.

    What another worker runs is told as of up to a second ago: what is in the log by now is not in progress.
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
    """End a request in progress, a plain user's own ones only.

    Its client gets the error of its dialect, and the row says by whom.

    Raises:
        HTTPNotFound: none of this id is in progress, or it is another user's.
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


def _ending(request: Request) -> Ending | None:
    text = request.get_param("ending") or None
    if text is not None and text not in get_args(Ending):
        raise InvalidBody(f"ending must be one of {', '.join(get_args(Ending))}")
    return cast("Ending | None", text)


def _cursor(request: Request) -> Cursor | None:
    text = request.get_param("cursor")
    if not text:
        return None
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise InvalidBody("cursor must be the `next` of another page")
    return Cursor(float(found[1]), found[2])
