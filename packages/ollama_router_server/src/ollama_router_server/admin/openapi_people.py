"""The rows of OpenAPI's document that are about users and groups."""

from __future__ import annotations

from typing import Any

from ollama_router_server.admin.openapi_operation import Operation
from ollama_router_server.admin.request_bodies import GroupPatch, NewGroup, NewToken, NewUser, UserPatch
from ollama_router_server.admin.response_bodies import (
    CreatedTokenBody,
    CreatedUserBody,
    DeletedBody,
    EndedSessionsBody,
    GroupBody,
    GroupsBody,
    InvitationBody,
    SessionsBody,
    TokensBody,
    UserDetailsBody,
    UsersBody,
    WithdrawnBody,
)
from ollama_router_server.admin.views.rights import GroupRightsView, RightsView

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
    Operation(
        method="get",
        path="/router/users",
        summary="List users by name, a page at a time",
        answer=UsersBody,
        query=_USERS_QUERY,
    ),
    Operation(
        method="post",
        path="/router/users",
        summary="Make a user",
        body=NewUser,
        answer=CreatedUserBody,
        status=201,
        refused=(404, 409, 413),
    ),
    Operation(method="get", path=_USER, summary="Show one user", answer=UserDetailsBody, refused=(404,)),
    Operation(
        method="patch",
        path=_USER,
        summary="Change a user",
        body=UserPatch,
        answer=UserDetailsBody,
        refused=(404, 413),
    ),
    Operation(method="delete", path=_USER, summary="Delete a user", answer=DeletedBody, refused=(404,)),
    Operation(method="get", path=_TOKENS, summary="List a user's tokens", answer=TokensBody, refused=(404,)),
    Operation(
        method="post",
        path=_TOKENS,
        summary="Give a user one more token",
        body=NewToken,
        answer=CreatedTokenBody,
        status=201,
        refused=(404, 409, 413),
    ),
    Operation(
        method="delete",
        path=f"{_TOKENS}/{{token}}",
        summary="End a token",
        answer=DeletedBody,
        refused=(404,),
    ),
    Operation(
        method="get",
        path=f"{_USER}/rights",
        summary="What a user may do, and which grant, role or setting says so",
        answer=RightsView,
        refused=(404,),
    ),
    Operation(
        method="post",
        path=f"{_USER}/invitation",
        summary="Make a link that signs a user in, once",
        answer=InvitationBody,
        status=201,
        refused=(404,),
    ),
    Operation(
        method="delete",
        path=f"{_USER}/invitation",
        summary="End the user's links that nobody has used",
        answer=WithdrawnBody,
        refused=(404,),
    ),
    Operation(
        method="get",
        path=f"{_USER}/sessions",
        summary="List the user's open sessions of the console",
        answer=SessionsBody,
        refused=(404,),
    ),
    Operation(
        method="delete",
        path=f"{_USER}/sessions",
        summary="End all of the user's sessions, and links that nobody has used",
        answer=EndedSessionsBody,
        refused=(404,),
    ),
    Operation(
        method="delete",
        path=f"{_USER}/sessions/{{id}}",
        summary="End one of the user's sessions",
        answer=EndedSessionsBody,
        refused=(404,),
    ),
    Operation(
        method="post",
        path=f"{_USER}/rights",
        summary="What a user could do after a change that is not made",
        body=UserPatch,
        answer=RightsView,
        refused=(404, 413),
    ),
    Operation(
        method="get",
        path="/router/groups",
        summary="List groups by name, a page at a time",
        answer=GroupsBody,
        query=_GROUPS_QUERY,
    ),
    Operation(
        method="post",
        path="/router/groups",
        summary="Make a group",
        body=NewGroup,
        answer=GroupBody,
        status=201,
        refused=(409, 413),
    ),
    Operation(method="get", path=_GROUP, summary="Show one group", answer=GroupBody, refused=(404,)),
    Operation(
        method="patch",
        path=_GROUP,
        summary="Change a group",
        body=GroupPatch,
        answer=GroupBody,
        refused=(404, 413),
    ),
    Operation(method="delete", path=_GROUP, summary="Delete a group", answer=DeletedBody, refused=(404, 409)),
    Operation(
        method="get",
        path=f"{_GROUP}/rights",
        summary="What a group means for a member with no grants of their own",
        answer=GroupRightsView,
        refused=(404,),
    ),
    Operation(
        method="post",
        path=f"{_GROUP}/rights",
        summary="What a group would mean after a change that is not made",
        body=GroupPatch,
        answer=GroupRightsView,
        refused=(404, 413),
    ),
)
