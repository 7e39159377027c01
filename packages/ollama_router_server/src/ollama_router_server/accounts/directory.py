"""Users and tokens as last read, indexed for authentication."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace  # noqa: TID251 - a known token is a dataclass: its digest is not shown

from msgspec import Struct

from ollama_router_server.storage.identities import Identities, KnownToken

__all__ = ["Directory", "index", "next_expiry", "with_proofs"]


class Directory(Struct, frozen=True):
    """`Identities`, indexed by public part and by id of the tokens."""

    epoch: int
    by_lookup: Mapping[str, tuple[KnownToken, ...]]
    by_token: Mapping[int, KnownToken]


def index(identities: Identities) -> Directory:
    """Index identities by the public parts and the ids of tokens."""
    by_lookup: dict[str, tuple[KnownToken, ...]] = {}
    for known in identities.tokens:
        by_lookup[known.lookup] = (*by_lookup.get(known.lookup, ()), known)
    by_token = {known.user.token_id: known for known in identities.tokens}
    return Directory(identities.epoch, by_lookup, by_token)


def with_proofs(directory: Directory, proven: Mapping[int, KnownToken]) -> Directory:
    """Add proofs that are not read from the database yet, if their digests are still current."""
    by_lookup, by_token = dict(directory.by_lookup), dict(directory.by_token)
    for token_id, source in proven.items():
        known = by_token.get(token_id)
        if known is None or known.digest != source.digest:
            continue
        by_token[token_id] = replace(known, proof=source.proof)
        sharing = by_lookup[known.lookup]
        by_lookup[known.lookup] = tuple(by_token[each.user.token_id] for each in sharing)
    return Directory(directory.epoch, by_lookup, by_token)


def next_expiry(directory: Directory, after: float) -> float:
    """Return when the next user's access ends after `after`, both in seconds since 1970; infinity for never."""
    ends = (known.user.grants.expires_at for known in directory.by_token.values())
    return min((end for end in ends if end is not None and end > after), default=float("inf"))
