"""Console sessions: a token or a link opens one, its cookie identifies the user."""

from __future__ import annotations

import hashlib
from typing import Final
from urllib.parse import urlsplit

from falcon.asgi import Request, Response

from ollama_router_core.access.grants import check_expiry, check_network
from ollama_router_core.access.sign_in_limits import SignInLimits
from ollama_router_core.access.tokens import Token
from ollama_router_core.errors import AccessError, InvalidCredential
from ollama_router_server.admin.token_access import address_of
from ollama_router_server.services import Services
from ollama_router_server.storage.audit_log import Actor
from ollama_router_server.storage.console_sessions import ConsoleSessions
from ollama_router_server.storage.identities import DuplicateName, User
from ollama_router_server.storage.user_store import DEFAULT_TOKEN_NAME

__all__ = ["Sessions"]

_NAME: Final = "orouter-console"
_WRONG = "this token or link is not valid"


class Sessions:
    """The console's sessions, stored in the database as digests.

    Every failure to sign in has the same message; attempts are limited by address and in total.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._limits = SignInLimits()
        self.opened = 0
        """Sessions opened since the start."""

    @property
    def _store(self) -> ConsoleSessions:
        return self._services.console_sessions

    async def sign_in(self, request: Request, response: Response, token: str) -> User:
        """Open a session for the user of a token.

        Raises:
            LimitExceeded: too many attempts.
            InvalidCredential: the token is invalid, or not allowed from this address.
        """
        address = address_of(self._services, request)
        self._limits.attempt(address, self._services.clock.monotonic())
        headers = [(b"authorization", b"Bearer " + token.encode("utf-8", "surrogatepass"))]
        try:
            found = self._services.authenticator.authenticate(headers, address)
            user = found if isinstance(found, User) else await found
            self._check(user, address)
        except AccessError:
            raise InvalidCredential(_WRONG) from None
        await self._open(response, user, "token")
        return user

    async def claim(self, request: Request, response: Response, secret: str) -> tuple[User, Token | None]:
        """Open a session with a single-use link; a user without a token gets one with it.

        Raises:
            LimitExceeded: too many attempts.
            InvalidCredential: the link is invalid or used.
        """
        address = address_of(self._services, request)
        self._limits.attempt(address, self._services.clock.monotonic())
        claimed = await self._store.claim(secret)
        person = None if claimed is None else await self._services.users.person(claimed)
        try:
            if person is None:
                raise InvalidCredential(_WRONG)
            self._check(person, address)
            token = await self._first_token(person, address)
            await self._services.authenticator.refresh()  # link and token may be newer than the users in memory
            user = self._services.authenticator.user_of_token(await self._store.first_token(person))
            if user is None:
                raise InvalidCredential(_WRONG)
        except (AccessError, DuplicateName):
            raise InvalidCredential(_WRONG) from None
        await self._open(response, user, "link")
        return user, token

    async def _first_token(self, person: User, address: str | None) -> Token | None:
        """Create a token for a user without one, since sessions are bound to a token; None if the user has one."""
        if await self._store.first_token(person):
            return None
        users = self._services.users.by(Actor(person.name, "console", address))
        return (await users.add_token(person.name, DEFAULT_TOKEN_NAME)).token

    async def find(self, request: Request) -> User | None:
        """Return the user of a request's session; None without an open session."""
        secret = _secret_of(request, self._cookie_name)
        stored = None if secret is None else await self._store.find(secret)
        if stored is None:
            return None
        user = self._services.authenticator.user_of_token(stored.token_id)
        if user is None or user.role != stored.role:
            return None
        try:
            self._check(user, address_of(self._services, request))
        except AccessError:
            return None
        return user

    def key(self, request: Request) -> str:
        """Return the key of a request's session, which cannot open it."""
        return hashlib.sha256((_secret_of(request, self._cookie_name) or "").encode("latin-1")).hexdigest()

    async def sign_out(self, request: Request, response: Response) -> None:
        """End the session of a request, in the database and in the browser."""
        secret = _secret_of(request, self._cookie_name)
        if secret is not None:
            await self._store.close(secret)
        response.unset_cookie(self._cookie_name, path=self._cookie_path)

    def _check(self, user: User, address: str | None) -> None:
        check_expiry(user.grants, self._services.clock.wall())
        check_network(user.grants, address)

    async def _open(self, response: Response, user: User, method: str) -> None:
        self._set_cookie(response, await self._store.open(user, method))
        self.opened += 1

    def _set_cookie(self, response: Response, secret: str) -> None:
        response.set_cookie(
            self._cookie_name,
            secret,
            max_age=int(self._services.config.console.session_max_age),
            path=self._cookie_path,
            secure=self._is_secure,
            http_only=True,
            same_site="Lax",
        )

    @property
    def _is_secure(self) -> bool:
        config = self._services.config
        return config.tls.certificate is not None or (config.console.public_url or "").startswith("https://")

    @property
    def _cookie_name(self) -> str:
        return f"__Secure-{_NAME}" if self._is_secure else _NAME

    @property
    def _cookie_path(self) -> str:
        """Restrict the cookie to the console's paths: ports share cookies, and the host may run other programs."""
        prefix = urlsplit(self._services.config.console.public_url or "").path.rstrip("/")
        return f"{prefix}/console/"


def _secret_of(request: Request, name: str) -> str | None:
    """Read the cookie's value; two cookies of this name count as none, since one may be another program's."""
    values = []
    for field, value in request.scope["headers"]:
        if field == b"cookie":
            values += [part.strip() for part in value.decode("latin-1").split(";")]
    found = [value[len(name) + 1 :] for value in values if value.startswith(f"{name}=")]
    return found[0] if len(found) == 1 and found[0] else None
