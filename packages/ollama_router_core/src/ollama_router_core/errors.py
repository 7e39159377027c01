"""The errors of ollama-router.

A leaf has a stable `code`, a `status_hint` and a text with advice; see `translate.error_body` for dialects.

    RouterError
    |-- ConfigError                 config_invalid          500   every problem of a config at once
    |-- RequestError
    |   |-- InvalidBody             invalid_body            400   not JSON, not UTF-8, trailing data, wrong type
    |   |-- AmbiguousKey            ambiguous_key           400   duplicate or case-variant key
    |   |-- MissingModel            model_required          400
    |   |-- InvalidModelName        invalid_model_name      400
    |   |-- ModelIncapable          model_incapable         400   the model lacks a capability
    |   |-- InvalidHeader           invalid_header          400   a router header with an invalid value
    |   |-- InvalidTarget           invalid_target          400   a path or query that cannot be forwarded safely
    |   |-- BodyTooLarge            body_too_large          413
    |   |-- UnsupportedEncoding     unsupported_encoding    415
    |   |-- UnknownRoute            unknown_route           404
    |   `-- MethodNotAllowed        method_not_allowed      405
    |-- AccessError
    |   |-- MissingCredential       missing_credential      401
    |   |-- InvalidCredential       invalid_credential      401
    |   |-- AmbiguousCredential     ambiguous_credential    400   more than one credential
    |   |-- UserInactive            user_inactive           403
    |   |-- Forbidden               forbidden               403   the user may not do this
    |   `-- LimitExceeded           limit_exceeded          429
    |-- SelectionError
    |   |-- ModelNotFound           model_not_found         404   no server has the model
    |   |-- ModelTooLarge           model_too_large         400   no server with the model has enough memory
    |   |-- NoServerFits            no_server_fits          503   servers have it, none can take the request now
    |   `-- Overloaded              overloaded              503   a queue or pool of the router is full
    |-- UpstreamError
    |   |-- ConnectFailed           upstream_unreachable    502   nothing was sent
    |   |-- UpstreamTimeout         upstream_timeout        504
    |   |-- UpstreamDisconnected    upstream_disconnected   502   cut before the answer was complete
    |   |-- UpstreamIncomplete      upstream_incomplete     502   ended as if complete, without the dialect's end
    |   `-- UpstreamProtocolError   upstream_protocol       502   not HTTP/1.1 that can be relayed safely
    |-- RequestCancelled            request_cancelled       409   an admin or the request's user cancelled it
    |-- PartlyDone                  partly_done             502   not all of several servers succeeded
    |-- RefusedLate                 refused_late            502   an error after keepalive messages
    `-- StorageUnavailable          storage_unavailable     503   the database is unavailable
"""

from __future__ import annotations

from typing import ClassVar, Literal

__all__ = [
    "AccessError",
    "AmbiguousCredential",
    "AmbiguousKey",
    "BodyTooLarge",
    "ConfigError",
    "ConnectFailed",
    "Forbidden",
    "InvalidBody",
    "InvalidCredential",
    "InvalidHeader",
    "InvalidModelName",
    "InvalidTarget",
    "LimitExceeded",
    "MethodNotAllowed",
    "MissingCredential",
    "MissingModel",
    "ModelIncapable",
    "ModelNotFound",
    "ModelTooLarge",
    "NoServerFits",
    "Overloaded",
    "PartlyDone",
    "RefusedLate",
    "RequestCancelled",
    "RequestError",
    "RouterError",
    "SelectionError",
    "StorageUnavailable",
    "UnknownRoute",
    "UnsupportedEncoding",
    "UpstreamDisconnected",
    "UpstreamError",
    "UpstreamIncomplete",
    "UpstreamProtocolError",
    "UpstreamTimeout",
    "UserInactive",
    "amount",
]


def amount(count: int, noun: str) -> str:
    """Word a number of things for a text: `1 request`, `2,000 requests`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


class RouterError(Exception):
    """The base of all errors. `str(error)` is safe for clients: it never contains a token, a key or a prompt.

    Args:
        message: the problem and how to fix it.
        retry_after: seconds after which a retry may succeed, None if unknown; `api.retry_advice` decides whether a
            retry makes sense at all.
    """

    code: ClassVar[str] = "router_error"
    status_hint: ClassVar[int] = 500

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class ConfigError(RouterError):
    """An invalid config; `problems` lists every problem for the operator."""

    code = "config_invalid"

    def __init__(self, message: str, *, problems: tuple[object, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class RequestError(RouterError):
    """The request is invalid; retrying it unchanged does not help."""

    code = "invalid_request"
    status_hint = 400


class InvalidBody(RequestError):
    """The body is not valid for the route."""

    code = "invalid_body"


class AmbiguousKey(RequestError):
    """Two keys that a server may match to one, and so use a value other than the checked one."""

    code = "ambiguous_key"


class MissingModel(RequestError):
    """The route needs a model and the request names none."""

    code = "model_required"


class InvalidModelName(RequestError):
    """The text is not a valid model name by Ollama's rules."""

    code = "invalid_model_name"


class ModelIncapable(RequestError):
    """Servers have the model, but it lacks capabilities: `missing` (tools, vision, completion, ...)."""

    code = "model_incapable"

    def __init__(self, message: str, *, missing: frozenset[str] = frozenset()) -> None:
        super().__init__(message)
        self.missing = missing


class InvalidHeader(RequestError):
    """A header field for the router is invalid."""

    code = "invalid_header"


class InvalidTarget(RequestError):
    """A path or query string that servers might parse differently."""

    code = "invalid_target"


class BodyTooLarge(RequestError):
    """More bytes than the configured limit."""

    code = "body_too_large"
    status_hint = 413


class UnsupportedEncoding(RequestError):
    """A Content-Encoding that the router cannot decode."""

    code = "unsupported_encoding"
    status_hint = 415


class UnknownRoute(RequestError):
    """A path outside the endpoint table."""

    code = "unknown_route"
    status_hint = 404


class MethodNotAllowed(RequestError):
    """A known path with another method; `allowed` lists the path's methods."""

    code = "method_not_allowed"
    status_hint = 405

    def __init__(self, message: str, *, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.allowed = allowed


class AccessError(RouterError):
    """The caller is unknown or may not do this."""

    code = "access_denied"
    status_hint = 403


class MissingCredential(AccessError):
    """The request has no credential."""

    code = "missing_credential"
    status_hint = 401


class InvalidCredential(AccessError):
    """No user has this credential."""

    code = "invalid_credential"
    status_hint = 401


class AmbiguousCredential(AccessError):
    """More than one credential; the router does not guess which one counts."""

    code = "ambiguous_credential"
    status_hint = 400


class UserInactive(AccessError):
    """The user is deactivated."""

    code = "user_inactive"


class Forbidden(AccessError):
    """The user may not do this, or not with this model."""

    code = "forbidden"


class LimitExceeded(AccessError):
    """The user has reached a rate, concurrency or token limit."""

    code = "limit_exceeded"
    status_hint = 429


class SelectionError(RouterError):
    """No server can take the request."""

    code = "no_server"
    status_hint = 503


class ModelNotFound(SelectionError):
    """No reachable server has the model; `unasked` servers were never reached."""

    code = "model_not_found"
    status_hint = 404

    def __init__(self, message: str, *, unasked: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.unasked = unasked


class ModelTooLarge(SelectionError):
    """Servers have the model, but it fits into the memory of none, even after unloading.

    The text lists each server, and a smaller context that would fit, if any.
    """

    code = "model_too_large"
    status_hint = 400


class NoServerFits(SelectionError):
    """Servers have the model, but none can take the request now; the text lists each with its reason."""

    code = "no_server_fits"


class Overloaded(SelectionError):
    """A bounded queue of the router is full."""

    code = "overloaded"


class UpstreamError(RouterError):
    """A server failed."""

    code = "upstream_error"
    status_hint = 502


class ConnectFailed(UpstreamError):
    """No connection was made and nothing was sent, so another server may be tried."""

    code = "upstream_unreachable"


class UpstreamTimeout(UpstreamError):
    """A server was silent for too long; `phase` is the part of the exchange, or `probe` if probes detected it."""

    code = "upstream_timeout"
    status_hint = 504

    def __init__(self, message: str, *, phase: Literal["send", "first_byte", "idle", "probe"]) -> None:
        super().__init__(message)
        self.phase = phase


class UpstreamDisconnected(UpstreamError):
    """The connection ended before the response was complete; the request may have run.

    Args:
        message: as for `RouterError`.
        reused: whether the connection had carried an earlier request, and this one got no response byte.
        reset: whether the connection was reset, not closed.
    """

    code = "upstream_disconnected"

    def __init__(self, message: str, *, reused: bool = False, reset: bool = False) -> None:
        super().__init__(message)
        self.reused = reused
        self.reset = reset


class UpstreamIncomplete(UpstreamError):
    """A stream ended correctly framed, but without its dialect's end of a response, or with an error instead."""

    code = "upstream_incomplete"


class UpstreamProtocolError(UpstreamError):
    """The server's bytes are not HTTP/1.1 that can be relayed safely; the request may have run."""

    code = "upstream_protocol"


class RequestCancelled(RouterError):
    """An admin or the request's user cancelled the request; the text says who."""

    code = "request_cancelled"
    status_hint = 409


class PartlyDone(RouterError):
    """An operation on several servers failed on some or all of them; the text names each."""

    code = "partly_done"
    status_hint = 502


class RefusedLate(RouterError):
    """A server answered with an error after keepalive messages had been sent, when the status was already 200."""

    code = "refused_late"
    status_hint = 502


class StorageUnavailable(RouterError):
    """The database is unavailable; what depends on it must fail closed."""

    code = "storage_unavailable"
    status_hint = 503
