"""The maximum wait and the priority of a request, from rules, grants and header fields."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from msgspec import Struct

from ollama_router_core.config.settings import Config
from ollama_router_core.errors import InvalidHeader
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.routing.policy import rule_for

__all__ = ["USUAL", "Waiting", "waiting_of"]

_FIELDS = frozenset({b"x-router-max-wait", b"x-router-priority", b"prefer"})
_PREFER_WAIT = re.compile(rb"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=[,;]|$)", re.IGNORECASE)
_SECONDS = re.compile(rb"\d{1,9}(\.\d{1,6})?")


class Waiting(Struct, frozen=True):
    """Maximum wait in seconds, None for the queue's; `batch` requests yield to all others."""

    max_wait: float | None = None
    batch: bool = False


USUAL = Waiting()


def waiting_of(config: Config, context: RequestContext) -> Waiting:
    """Combine rule, grants and header fields: the shortest maximum wait, and batch if any of them says so.

    Raises:
        InvalidHeader: `X-Router-Max-Wait` or `X-Router-Priority` is malformed or repeated.
    """
    lines = [(name, value) for name, value in context.headers if name in _FIELDS]
    grants = None if context.user is None else context.user.grants
    granted = grants is not None and (grants.batch or grants.max_wait is not None)
    if not (lines or granted or config.models.rules):
        return USUAL
    fields = _combined(lines)
    requested, batch_requested = _requested_wait(fields), _requests_batch(fields)
    model = None if context.route is None else context.route.model
    rule = None if model is None or not config.models.rules else rule_for(model, config.models)
    bounds = [None if rule is None else rule.max_wait, None if grants is None else grants.max_wait, requested]
    limits = [seconds for seconds in bounds if seconds is not None]
    batch = (
        batch_requested
        or (rule is not None and rule.priority == "batch")
        or (grants is not None and bool(grants.batch))
    )
    if not limits and not batch:
        return USUAL
    most = math.inf if rule is not None and rule.max_wait is not None else config.queue.max_wait
    return Waiting(min([*limits, most]) if limits else None, batch)


def _combined(lines: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Join repeated fields by commas (RFC 9110, section 5.2)."""
    fields: dict[bytes, bytes] = {}
    for name, value in lines:
        fields[name] = fields[name] + b", " + value if name in fields else value
    return fields


def _requested_wait(fields: Mapping[bytes, bytes]) -> float | None:
    text = fields.get(b"x-router-max-wait")
    if text is not None:
        if not _SECONDS.fullmatch(text.strip()):
            raise InvalidHeader("X-Router-Max-Wait must be a number of seconds")
        return float(text)
    preferred = fields.get(b"prefer")
    found = None if preferred is None else _PREFER_WAIT.search(preferred)
    return None if found is None else float(found[1])


def _requests_batch(fields: Mapping[bytes, bytes]) -> bool:
    text = fields.get(b"x-router-priority")
    if text is None:
        return False
    if text.strip().lower() not in {b"interactive", b"batch"}:
        raise InvalidHeader("X-Router-Priority must be interactive or batch")
    return text.strip().lower() == b"batch"
