"""The rows of the table of admin routes for users and groups."""

from __future__ import annotations

from typing import Any

from ollama_router_server.admin.groups_resource import (
    change_group,
    create_group,
    delete_group,
    group_rights_after,
    list_groups,
    show_group,
)
from ollama_router_server.admin.operation_row import Operation, delete, get, patch, post
from ollama_router_server.admin.request_bodies import GroupPatch, NewGroup, NewToken, NewUser, UserPatch
from ollama_router_server.admin.sessions_resource import end_sessions, invite, list_sessions, withdraw
from ollama_router_server.admin.users_resource import (
    add_token,
    change_user,
    create_user,
    delete_user,
    list_tokens,
    list_users,
    revoke_token,
    rights_after,
    show_user,
)
from ollama_router_server.admin.views.rights import GroupRightsView, RightsView, group_rights_view, rights_view

__all__ = ["PEOPLE"]

_USER, _TOKENS, _GROUP = "/router/users/{name}", "/router/users/{name}/tokens", "/router/groups/{name}"
_USERS_QUERY: tuple[tuple[str, dict[str, Any]], ...] = (
    ("search", {"type": "string", "description": "Part of the name."}),
    ("role", {"enum": ["", "admin", "user", "viewer"]}),
    ("group", {"type": "string"}),
    ("active", {"enum": ["", "true", "false"]}),
    ("after", {"type": "string", "description": "`next` of the previous page."}),
    ("limit", {"type": "integer", "minimum": 1, "maximum": 200}),
)
_GROUPS_QUERY = tuple(one for one in _USERS_QUERY if one[0] in {"search", "after", "limit"})


PEOPLE: tuple[Operation, ...] = (
    get("/router/users", list_users, "List users by name, a page at a time", query=_USERS_QUERY),
    post("/router/users", create_user, "Create a user", body=NewUser, status=201, refused=(404, 409)),
    get(_USER, show_user, "Show one user"),
    patch(_USER, change_user, "Change a user", body=UserPatch),
    delete(_USER, delete_user, "Delete a user"),
    get(_TOKENS, list_tokens, "List a user's tokens"),
    post(_TOKENS, add_token, "Create a token for a user", body=NewToken, status=201, refused=(409,)),
    delete(f"{_TOKENS}/{{token}}", revoke_token, "Revoke a token"),
    get(
        f"{_USER}/rights",
        lambda services, _, name: rights_view(services, name),
        "Show a user's permissions and limits, each with its grant, role or setting",
        answer=RightsView,
    ),
    post(f"{_USER}/invitation", invite, "Create a single-use sign-in link for a user", status=201),
    delete(f"{_USER}/invitation", withdraw, "Withdraw the user's unused links"),
    get(f"{_USER}/sessions", list_sessions, "List the user's open console sessions"),
    delete(f"{_USER}/sessions", end_sessions, "End all of the user's sessions and withdraw unused links"),
    delete(f"{_USER}/sessions/{{id}}", end_sessions, "End one of the user's sessions"),
    post(
        f"{_USER}/rights",
        rights_after,
        "Preview a user's permissions and limits after a change, without making it",
        body=UserPatch,
    ),
    get("/router/groups", list_groups, "List groups by name, a page at a time", query=_GROUPS_QUERY),
    post("/router/groups", create_group, "Create a group", body=NewGroup, status=201, refused=(409,)),
    get(_GROUP, show_group, "Show one group"),
    patch(_GROUP, change_group, "Change a group", body=GroupPatch),
    delete(_GROUP, delete_group, "Delete a group", refused=(409,)),
    get(
        f"{_GROUP}/rights",
        lambda services, _, name: group_rights_view(services, name),
        "Show the permissions and limits of a member without own grants",
        answer=GroupRightsView,
    ),
    post(
        f"{_GROUP}/rights",
        group_rights_after,
        "Preview a group's permissions and limits after a change, without making it",
        body=GroupPatch,
    ),
)
