"""Tokens counted in this process that are not in the database yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import ItemsView, Mapping

import structlog

from ollama_router_core.errors import StorageUnavailable
from ollama_router_server.storage.token_usage import DayOfUser, TokenUsage

__all__ = ["UnwrittenTokens"]

_log = structlog.get_logger(__name__)


class UnwrittenTokens:
    """Pending changes of the database's counts, by user and day; negative if more was charged than used."""

    def __init__(self, usage: TokenUsage) -> None:
        self._usage = usage
        self._tokens: Counter[DayOfUser] = Counter()

    def add(self, user: str, day: int, tokens: int) -> None:
        """Count tokens of a user's day."""
        self._tokens[user, day] += tokens

    def items(self) -> ItemsView[DayOfUser, int]:
        """Return the pending tokens by user and day."""
        return self._tokens.items()

    async def write(self) -> None:
        """Add the pending tokens to the database; tokens that it rejects permanently are logged and dropped.

        Raises:
            StorageUnavailable: the tokens stay pending.
        """
        deltas = {key: tokens for key, tokens in self._tokens.items() if tokens}
        try:
            await self._usage.add(deltas)
        except StorageUnavailable:
            raise
        except Exception:  # noqa: BLE001 - whatever a driver says of a bad value
            await self._write_each(deltas)
        else:
            self._wrote(deltas)

    async def _write_each(self, deltas: Mapping[DayOfUser, int]) -> None:
        """Write one by one, so that tokens that the database rejects do not block the others."""
        for key, tokens in deltas.items():
            try:
                await self._usage.add({key: tokens})
            except StorageUnavailable:
                raise
            except Exception:  # noqa: BLE001 - as above
                _log.exception("tokens_not_counted", user=key[0], tokens=tokens)
            self._wrote({key: tokens})

    def _wrote(self, deltas: Mapping[DayOfUser, int]) -> None:
        self._tokens.subtract(deltas)
        for key in [key for key in deltas if not self._tokens[key]]:
            del self._tokens[key]
