"""Bodies of requests to the admin routes, as types that validate them.

Times are seconds since 1970 (UTC). The core's `access` validates grants; the types here only describe them.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ollama_router_core.access.grants import SpeaksFor
from ollama_router_core.api.endpoints import Kind
from ollama_router_core.api.reach import Reach
from ollama_router_server.storage.identities import Role

__all__ = ["GrantsBody", "GroupPatch", "NewGroup", "NewToken", "NewUser", "UserPatch"]

Name = Annotated[
    str, Field(min_length=1, max_length=100, description="Printable, without leading or trailing white space.")
]
Pattern = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[!-~]+$")]
Patterns = Annotated[list[Pattern], Field(max_length=200)]
Count = Annotated[int, Field(ge=0, lt=2**53)]


class _In(BaseModel):
    """A request body; unknown keys and wrong types are rejected."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)


class GrantsBody(_In):
    """Grants of a user or group; a null or missing field is inherited from the group, then from the role."""

    models: Patterns | None = Field(default=None, description="Shell patterns of model names: *, ? and [...].")
    hosts: Patterns | None = Field(default=None, description="Shell patterns of external hosts: *, ? and [...].")
    cloud: bool | None = Field(default=None, description="false forbids models of Ollama's cloud.")
    reach: Annotated[list[Reach], Field(max_length=200)] | None = Field(
        default=None, strict=False, description="What requests may use at external hosts beyond plain answers."
    )
    unload: bool | None = Field(default=None, description="Whether models may be unloaded (`keep_alive: 0`).")
    kinds: Annotated[list[Kind], Field(max_length=200)] | None = Field(
        default=None, strict=False, description="Allowed kinds of route, a subset of the role's."
    )
    networks: Annotated[list[str], Field(max_length=200)] | None = Field(
        default=None, description="Allowed client networks, such as 10.0.0.0/8."
    )
    expires_at: Annotated[float, Field(ge=0, lt=2**53, allow_inf_nan=False)] | None = Field(
        default=None, description="When access ends, in seconds since 1970."
    )
    batch: bool | None = Field(default=None, description="Whether every request has batch priority.")
    max_wait: Count | None = Field(default=None, description="Longest wait of a request for a server, in seconds.")
    speaks_for: SpeaksFor | None = Field(default=None, description="The users for whom this user may send requests.")
    requests_per_minute: Count | None = None
    concurrent_requests: Count | None = None
    tokens_per_minute: Count | None = None
    tokens_per_day: Count | None = None
    tokens_per_month: Count | None = None


class NewUser(_In):
    """A user to create; with `invite` the user gets a link instead of a token."""

    name: Name
    role: Role = "user"
    group: Name | None = None
    grants: GrantsBody | None = None
    invite: bool = False


class UserPatch(_In):
    """Changes to a user; missing fields stay. In `grants`, null unsets a grant; `group` null is no group."""

    role: Role | None = None
    active: bool | None = None
    group: Name | None = None
    grants: GrantsBody | None = None


class NewToken(_In):
    """A token to create."""

    name: Name
    batch: bool = Field(default=False, description="Whether requests with this token have batch priority.")


class NewGroup(_In):
    """A group to create."""

    name: Name
    grants: GrantsBody | None = None


class GroupPatch(_In):
    """Changes to a group; null unsets a grant."""

    grants: GrantsBody
