"""Bodies of the routes for admins, as types: they check what comes in and describe what goes out.

Times are seconds since 1970 (UTC). Grants are checked by the core's `access`; here they are described.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ollama_router_core.api.endpoints import Kind

__all__ = [
    "CreatedTokenBody",
    "CreatedUserBody",
    "DeletedBody",
    "ErrorBody",
    "GrantsBody",
    "GroupBody",
    "GroupPatch",
    "GroupsBody",
    "NewGroup",
    "NewToken",
    "NewUser",
    "TokenBody",
    "TokensBody",
    "UsageBody",
    "UserBody",
    "UserDetailsBody",
    "UserPatch",
    "UsersBody",
]

Name = Annotated[str, Field(min_length=1, max_length=100, description="Printable, no white space at its ends.")]
Role = Literal["admin", "user", "viewer"]
Pattern = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[!-~]+$")]
Patterns = Annotated[list[Pattern], Field(max_length=200)]
Count = Annotated[int, Field(ge=0, lt=2**53)]


class _In(BaseModel):
    """What a client sends: unknown keys and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class _Out(BaseModel):
    """What the router answers."""

    model_config = ConfigDict(extra="forbid")


class GrantsBody(_In):
    """What a user or group may do; null, or leaving a field out, leaves it to the group, and then open."""

    models: Patterns | None = Field(default=None, description="Model names; * and ? stand for anything.")
    hosts: Patterns | None = Field(default=None, description="External hosts; * and ? stand for anything.")
    cloud: bool | None = Field(default=None, description="false forbids models of Ollama's cloud.")
    kinds: Annotated[list[Kind], Field(max_length=200)] | None = Field(
        default=None, strict=False, description="Kinds of route, within the role's."
    )
    networks: Annotated[list[str], Field(max_length=200)] | None = Field(
        default=None, description="Client networks, as 10.0.0.0/8."
    )
    expires_at: Annotated[float, Field(ge=0, lt=2**53, allow_inf_nan=False)] | None = Field(
        default=None, description="When access ends."
    )
    requests_per_minute: Count | None = None
    concurrent_requests: Count | None = None
    tokens_per_day: Count | None = None
    tokens_per_month: Count | None = None


class NewUser(_In):
    """A user to be made."""

    name: Name
    role: Role = "user"
    group: Name | None = None
    grants: GrantsBody | None = None


class UserPatch(_In):
    """What to change; what is left out stays. In `grants` null takes a field back; `group` null is no group."""

    role: Role | None = None
    active: bool | None = None
    group: Name | None = None
    grants: GrantsBody | None = None


class NewToken(_In):
    """A token to be made."""

    name: Name


class NewGroup(_In):
    """A group to be made."""

    name: Name
    grants: GrantsBody | None = None


class GroupPatch(_In):
    """What to change of a group; null takes a field back."""

    grants: GrantsBody


class TokenBody(_Out):
    """What may be shown of a token: never the token."""

    name: str
    lookup: str = Field(description="Its public first 8 characters.")
    created_at: float
    last_used_at: float | None


class TokensBody(_Out):
    """Tokens of a user."""

    tokens: list[TokenBody]


class UserBody(_Out):
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
    """A user with figures over the log."""

    errors: int
    mean_ms: float | None
    prompt_tokens: int
    completion_tokens: int


class UsersBody(_Out):
    """All users, by name."""

    users: list[UserBody]


class CreatedUserBody(_Out):
    """A new user with the token, shown this once."""

    name: str
    role: Role
    token: str


class CreatedTokenBody(_Out):
    """A new token, shown this once."""

    user: str
    name: str
    token: str


class DeletedBody(_Out):
    """What is gone."""

    name: str
    deleted: Literal[True]
    log_rows: int | None = None


class GroupBody(_Out):
    """A group."""

    name: str
    grants: GrantsBody
    members: list[str]
    created_at: float


class GroupsBody(_Out):
    """All groups, by name."""

    groups: list[GroupBody]


class UsageLine(_Out):
    """Sums for one user, model or server; the name is null where the log has none."""

    name: str | None
    requests: int
    errors: int
    prompt_tokens: int
    completion_tokens: int


class UsageBody(_Out):
    """Sums over the request log, the busiest first."""

    since: float | None
    requests: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    dropped: int
    by_user: list[UsageLine]
    by_model: list[UsageLine]
    by_server: list[UsageLine]


class ErrorBody(_Out):
    """Why not; heads that the HTTP front does not take have no code."""

    error: str
    code: str | None = None
