"""The rows of the table of admin routes that are about users and groups."""

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
from ollama_router_server.admin.invitations_resource import invite, withdraw
from ollama_router_server.admin.operation_row import Operation, delete, get, patch, post
from ollama_router_server.admin.request_bodies import GroupPatch, NewGroup, NewToken, NewUser, UserPatch
from ollama_router_server.admin.sessions_resource import end_sessions, list_sessions
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
    ("search", {"type": "string", "description": "A part of the name."}),
    ("role", {"enum": ["", "admin", "user", "viewer"]}),
    ("group", {"type": "string"}),
    ("active", {"enum": ["", "true", "false"]}),
    ("after", {"type": "string", "description": "`next` of the page before."}),
    ("limit", {"type": "integer", "minimum": 1, "maximum": 200}),
)
_GROUPS_QUERY = tuple(one for one in _USERS_QUERY if one[0] in {"search", "after", "limit"})


PEOPLE: tuple[Operation, ...] = (
    get("/router/users", list_users, "List users by name, a page at a time", query=_USERS_QUERY),
    post("/router/users", create_user, "Make a user", body=NewUser, status=201, refused=(404, 409)),
    get(_USER, show_user, "Show one user"),
    patch(_USER, change_user, "Change a user", body=UserPatch),
    delete(_USER, delete_user, "Delete a user"),
    get(_TOKENS, list_tokens, "List a user's tokens"),
    post(_TOKENS, add_token, "Give a user one more token", body=NewToken, status=201, refused=(409,)),
    delete(f"{_TOKENS}/{{token}}", revoke_token, "End a token"),
    get(
        f"{_USER}/rights",
        lambda services, _, name: rights_view(services, name),
        "What a user may do, and which grant, role or setting says so",
        answer=RightsView,
    ),
    post(f"{_USER}/invitation", invite, "Make a link that signs a user in, once", status=201),
    delete(f"{_USER}/invitation", withdraw, "End the user's links that nobody has used"),
    get(f"{_USER}/sessions", list_sessions, "List the user's open sessions of the console"),
    delete(f"{_USER}/sessions", end_sessions, "End all of the user's sessions, and links that nobody has used"),
    delete(f"{_USER}/sessions/{{id}}", end_sessions, "End one of the user's sessions"),
    post(f"{_USER}/rights", rights_after, "What a user could do after a change that is not made", body=UserPatch),
    get("/router/groups", list_groups, "List groups by name, a page at a time", query=_GROUPS_QUERY),
    post("/router/groups", create_group, "Make a group", body=NewGroup, status=201, refused=(409,)),
    get(_GROUP, show_group, "Show one group"),
    patch(_GROUP, change_group, "Change a group", body=GroupPatch),
    delete(_GROUP, delete_group, "Delete a group", refused=(409,)),
    get(
        f"{_GROUP}/rights",
        lambda services, _, name: group_rights_view(services, name),
        "What a group means for a member with no grants of their own",
        answer=GroupRightsView,
    ),
    post(
        f"{_GROUP}/rights",
        group_rights_after,
        "What a group would mean after a change that is not made",
        body=GroupPatch,
    ),
)
