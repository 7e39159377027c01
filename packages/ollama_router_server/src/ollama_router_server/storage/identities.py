"""Values and errors of users, tokens and groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from ollama_router_core.access.grants import Grants, grants_from_json, grants_to_json
from ollama_router_core.access.tokens import Token
from ollama_router_core.errors import RouterError
from ollama_router_core.records.request_record import RequestRecord

__all__ = [
    "CreatedToken",
    "DuplicateName",
    "Group",
    "GroupInUse",
    "GroupPage",
    "GroupSummary",
    "Identities",
    "InvalidUserName",
    "KnownToken",
    "Role",
    "TokenInfo",
    "UnknownGroup",
    "UnknownUser",
    "User",
    "UserChange",
    "UserDetails",
    "UserFilter",
    "UserPage",
    "UserSummary",
    "changed_grants",
]

Role = Literal["admin", "user", "viewer"]


class UnknownUser(RouterError):
    """No user (or no token of the user) has this name; the message lists the nearest names."""

    code = "unknown_user"
    status_hint = 404


class UnknownGroup(RouterError):
    """No group has this name; the message lists the nearest names."""

    code = "unknown_group"
    status_hint = 404


class GroupInUse(RouterError):
    """A group with members cannot be deleted, since they would lose its limits."""

    code = "group_in_use"
    status_hint = 409


class DuplicateName(RouterError):
    """The name is taken."""

    code = "duplicate_name"
    status_hint = 409


class InvalidUserName(RouterError):
    """The name could not be typed, printed or logged safely."""

    code = "invalid_user_name"
    status_hint = 400


class User(Struct, frozen=True, kw_only=True):
    """A user authenticated by one token. `grants` include the group's, lowered for a `batch_token`."""

    id: int
    name: str
    role: Role
    active: bool
    token_id: int
    batch_token: bool = False
    grants: Grants = Grants()
    group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownToken:
    """A token's digest and its user. `imported` tokens may have another format."""

    lookup: str
    digest: str = field(repr=False)
    imported: bool
    user: User
    proof: str | None = field(default=None, repr=False, compare=False)
    """The proof of the credential that matches the digest, under this router's key; see `TokenProver`."""


class Identities(Struct, frozen=True, kw_only=True):
    """Every token of every user at one epoch."""

    epoch: int
    tokens: tuple[KnownToken, ...]


class CreatedToken(Struct, frozen=True, kw_only=True):
    """A new token, shown once and never stored."""

    user: str
    role: Role
    token: Token


class TokenInfo(Struct, frozen=True, kw_only=True):
    """The public data of a token; times are seconds since 1970. Requests with a `batch` token have batch priority."""

    name: str
    lookup: str
    created_at: float
    last_used_at: float | None
    batch: bool = False


class UserSummary(Struct, frozen=True, kw_only=True):
    """A user in the list of users; times are seconds since 1970."""

    name: str
    role: Role
    active: bool
    created_at: float
    requests: int
    tokens: tuple[TokenInfo, ...]
    group: str | None = None
    own_grants: Grants = Grants()
    """The user's own grants, without the group's."""


class UserFilter(Struct, frozen=True, kw_only=True):
    """Conditions on users; None leaves a field open. `search` is a case-insensitive substring of the name."""

    search: str | None = None
    role: Role | None = None
    group: str | None = None
    active: bool | None = None


class UserPage(Struct, frozen=True, kw_only=True):
    """A page of users by name; `next` is the name after which the next page begins, `matching` counts all matches."""

    users: tuple[UserSummary, ...]
    next: str | None
    matching: int


class UserChange(Struct, frozen=True, kw_only=True):
    """A change of a user; None leaves a field unchanged. `group` counts only if `moves` is True; None is no group.

    `grants` are fields of the user's own grants as JSON values; None unsets a field.
    """

    role: Role | None = None
    active: bool | None = None
    moves: bool = False
    group: str | None = None
    grants: Mapping[str, Any] = {}

    def to_json(self) -> dict[str, Any]:
        """Return the changed fields."""
        changed = {"role": self.role, "active": self.active, "grants": dict(self.grants) or None}
        moved = {"group": self.group} if self.moves else {}
        return {name: value for name, value in changed.items() if value is not None} | moved

    def apply(self, user: UserSummary) -> UserSummary:
        """Return the user after this change.

        Raises:
            InvalidGrants: the resulting grants are invalid.
        """
        return replace(
            user,
            role=self.role or user.role,
            active=user.active if self.active is None else self.active,
            group=self.group if self.moves else user.group,
            own_grants=changed_grants(user.own_grants, self.grants),
        )


def changed_grants(grants: Grants, changes: Mapping[str, Any]) -> Grants:
    """Change some fields of grants, given as JSON values; None unsets a field.

    Raises:
        InvalidGrants: the result is invalid.
    """
    return grants_from_json({**grants_to_json(grants), **changes})


class Group(Struct, frozen=True, kw_only=True):
    """Users who share grants; `created_at` is seconds since 1970."""

    name: str
    grants: Grants
    members: tuple[str, ...]
    created_at: float


class GroupSummary(Struct, frozen=True, kw_only=True):
    """A group in the list of groups: its number of members, and their requests and tokens of seven days (UTC).

    Usage counts for a member's current group; tokens are prompt plus completion tokens.
    """

    name: str
    grants: Grants
    members: int
    requests: int
    tokens: int
    created_at: float


class GroupPage(Struct, frozen=True, kw_only=True):
    """A page of groups by name; `next` is the name after which the next page begins, `matching` counts all matches."""

    groups: tuple[GroupSummary, ...]
    next: str | None
    matching: int


class UserDetails(Struct, frozen=True, kw_only=True):
    """One user with statistics of all logged requests; `mean_ms` is None before the first."""

    summary: UserSummary
    errors: int
    mean_ms: float | None
    prompt_tokens: int
    completion_tokens: int
    last_requests: tuple[RequestRecord, ...]
