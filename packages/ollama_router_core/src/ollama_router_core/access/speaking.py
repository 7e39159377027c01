"""The person behind a shared client: chat pages and gateways have one token and name the person in each request.

A name counts only if the client's user may send requests on behalf of others. The person acts with their own rights,
never as an administrator.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from msgspec.structs import replace

from ollama_router_core.access.grants import Grants, Role, combine_grants, grants_by_token

__all__ = ["NAMING", "named_in_body", "named_in_fields", "spoken_grants", "spoken_role"]

_FIELDS = (
    b"x-openwebui-user-email",
    b"x-openwebui-user-id",
    b"x-openwebui-user-name",
    b"x-litellm-end-user-id",
    b"x-librechat-user-email",
    b"x-librechat-user-id",
)
"""Header fields that name a person, in order of precedence."""
_MEMBERS = ("user", "safety_identifier")
NAMING = frozenset({*_MEMBERS, "metadata"})
"""Members of a request's body that may name a person."""
_SESSION = re.compile(r"(user_[0-9a-f]{16,128})_account_.*", re.ASCII | re.DOTALL)
"""The format of Claude Code: a person's digest, the account, and a session that changes each time."""
_IN_JSON = ("account_uuid", "device_id", "user_id")
"""Members that name the person in the JSON text of its later versions, in order of precedence."""
_LONGEST = 1000


def named_in_fields(headers: Iterable[tuple[bytes, bytes]], own_field: str | None = None) -> str | None:
    """Return the person named in header fields; `own_field`, the configured one, takes precedence."""
    names = (own_field.lower().encode("ascii"), *_FIELDS) if own_field else _FIELDS
    found = {name: value for name, value in headers if name in names}
    texts = (_text(found[name]) for name in names if name in found)
    return next((text for text in texts if text), None)


def named_in_body(members: Mapping[str, Any]) -> str | None:
    """Return the person named in a body: OpenAI's `user` or `safety_identifier`, Anthropic's `metadata.user_id`."""
    metadata = members.get("metadata")
    inner = metadata.get("user_id") if isinstance(metadata, dict) else None
    texts = (value.strip() for value in (*map(members.get, _MEMBERS), inner) if isinstance(value, str))
    return next((_without_session(text[:_LONGEST]) for text in texts if text), None)


def spoken_role(speaker: Role, person: Role) -> Role:
    """Return the role for a request on a person's behalf: the lesser of both, never admin."""
    return "viewer" if "viewer" in {speaker, person} else "user"


def spoken_grants(speaker: Grants, person: Grants) -> Grants:
    """Return the grants for a request on a person's behalf: the person's, else the speaker's.

    Networks are dropped, as the address is the speaker's and was checked. If the speaker has batch priority, by its
    token or a grant, so does every person.
    """
    both = grants_by_token(combine_grants(person, speaker), batch=bool(speaker.batch))
    return replace(both, networks=None, expires_at=person.expires_at, speaks_for=None)


def _text(value: bytes) -> str:
    text = value.decode("utf-8", "replace").strip()
    return unquote(text) if "%" in text else text


def _without_session(text: str) -> str:
    found = _SESSION.fullmatch(text)
    if found is not None:
        return found[1]
    if not text.startswith("{"):
        return text
    try:
        members = json.loads(text)
    except (ValueError, RecursionError):
        return text
    names = (members.get(key) for key in _IN_JSON)
    return next((name for name in names if isinstance(name, str) and name), text)
