"""Authentication where a test does not care whether bcrypt is needed."""

from __future__ import annotations

from ollama_router_server.accounts.authentication import Authenticator, Headers, User

__all__ = ["verified"]


async def verified(authenticator: Authenticator, headers: Headers) -> User:
    """The user with these fields, by bcrypt if need be."""
    found = authenticator.authenticate(headers)
    return found if isinstance(found, User) else await found
