"""Bodies of responses of the admin routes. Times are seconds since 1970 (UTC)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, RootModel

from ollama_router_server.admin.request_bodies import GrantsBody
from ollama_router_server.admin.view import View
from ollama_router_server.storage.audit_log import AuditAction, Via
from ollama_router_server.storage.identities import Role

__all__ = [
    "AuditBody",
    "AuditEntryBody",
    "CancelledBody",
    "CreatedTokenBody",
    "CreatedUserBody",
    "DeletedBody",
    "DrainBody",
    "EndedSessionsBody",
    "ErrorBody",
    "GroupBody",
    "GroupsBody",
    "InvitationBody",
    "ListedUserBody",
    "ModelUserLine",
    "ModelUsersBody",
    "ObjectBody",
    "QueueBody",
    "QueuedBody",
    "SessionBody",
    "SessionsBody",
    "TokenBody",
    "TokensBody",
    "UserBody",
    "UserDetailsBody",
    "UsersBody",
    "WithdrawnBody",
]


class TokenBody(View):
    """The public data of a token, never the token itself."""

    name: str
    lookup: str = Field(description="The token's first 8 characters, which are public.")
    created_at: float
    last_used_at: float | None
    batch: bool = Field(description="Whether requests with this token have batch priority.")


class TokensBody(View):
    """The tokens of a user."""

    tokens: list[TokenBody]


class UserBody(View):
    """A user."""

    name: str
    role: Role
    active: bool
    group: str | None
    grants: GrantsBody
    requests: int
    created_at: float
    tokens: list[TokenBody]


class UserDetailsBody(UserBody):
    """A user with totals from the request log."""

    errors: int
    mean_ms: float | None
    prompt_tokens: int
    completion_tokens: int


class ListedUserBody(UserBody):
    """A user in the list, with requests of the last seven days (UTC) and the token limit that is closest to exhaustion.

    `tokens_used` of `tokens_limit` are those of the day or the month (`tokens_per`), null without such a limit.
    `last_seen` is the last use of a token; `expires_at` may come from the group.
    """

    requests_7d: int
    tokens_used: int | None
    tokens_limit: int | None
    tokens_per: Literal["day", "month"] | None
    last_seen: float | None
    expires_at: float | None


class UsersBody(View):
    """Users by name; `next` is the name after which the next page begins, `matching` counts all matches."""

    users: list[ListedUserBody]
    next: str | None
    matching: int


class InvitationBody(View):
    """A link that signs a user in once; shown only now."""

    user: str
    link: str
    expires_at: float


class WithdrawnBody(View):
    """How many unused links of a user were withdrawn."""

    user: str
    withdrawn: int


class SessionBody(View):
    """An open console session: `method` is `token` or `link`; the session ends with the token of this name."""

    id: str
    method: str
    token: str
    created_at: float
    seen_at: float


class SessionsBody(View):
    """A user's open sessions, newest first; `seen_at` is at most a minute old."""

    user: str
    sessions: list[SessionBody]


class EndedSessionsBody(View):
    """How many sessions of a user ended."""

    user: str
    ended: int


class CreatedUserBody(View):
    """A new user with a token, or with an invitation instead; shown only now."""

    name: str
    role: Role
    token: str | None
    invitation: InvitationBody | None = None


class CreatedTokenBody(View):
    """A new token, shown only now."""

    user: str
    name: str
    token: str
    batch: bool


class DeletedBody(View):
    """The deleted object."""

    name: str
    deleted: Literal[True]
    log_rows: int | None = None


class GroupBody(View):
    """A group."""

    name: str
    grants: GrantsBody
    members: list[str]
    created_at: float


class ListedGroupBody(View):
    """A group in the list, with its current members' requests and tokens (in and out) of the last seven days (UTC)."""

    name: str
    grants: GrantsBody
    member_count: int
    requests_7d: int
    tokens_7d: int
    created_at: float


class GroupsBody(View):
    """Groups by name; `next` is the name after which the next page begins, `matching` counts all matches."""

    groups: list[ListedGroupBody]
    next: str | None
    matching: int


class ModelUserLine(View):
    """Requests of one user for a model."""

    name: str | None
    requests: int


class ModelUsersBody(View):
    """The users of a model since `since`, from the newest 100,000 rows."""

    model: str
    since: float
    users: list[ModelUserLine]


class AuditEntryBody(View):
    """A change: its author, channel and address, the changed object, and details."""

    at: float
    actor: str
    via: Via
    address: str | None
    action: AuditAction
    subject: str | None
    detail: dict[str, Any]


class AuditBody(View):
    """Entries of the audit trail, newest first."""

    entries: list[AuditEntryBody]


class QueuedBody(View):
    """Queued requests of one kind; `expected_seconds` is the forecast wait of a new request."""

    model: str | None
    context: int | None
    waiting: int
    batch: bool
    longest_seconds: float
    expected_seconds: float


class QueueBody(View):
    """The queue."""

    waiting: int
    queue: list[QueuedBody]


class DrainBody(View):
    """A server whose drain started or ended."""

    server: str
    draining: bool
    in_flight: int


class CancelledBody(View):
    """The cancelled request or operation."""

    id: str
    cancelled: bool


class ObjectBody(RootModel[dict[str, Any]]):
    """An object; the reference of the command line describes its members."""


class ErrorBody(View):
    """An error; responses to headers that the HTTP front rejects have no code."""

    error: str
    code: str | None = None
