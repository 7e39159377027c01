"""Limits shared by members, and their division while members cannot reach each other."""

from __future__ import annotations

from msgspec.structs import replace

from ollama_router_core.access.grants import Grants
from ollama_router_core.coordination.interface import Coordination, Scope

__all__ = ["MINUTE_SECONDS", "count_here", "part_of", "share_of", "shared_grants"]

MINUTE_SECONDS = 60


def part_of(number: int, members: int, rank: int) -> int:
    """Return a member's equal part; `rank` is from 0, and the lowest ranks get the remainder."""
    whole, rest = divmod(max(0, number), max(1, members))
    return whole + (rank < rest)


def share_of(limit: int, members: int, rank: int) -> int:
    """Return a member's share of a limit: its part, at least 1 unless the limit is 0."""
    return limit if limit < 1 else max(1, part_of(limit, members, rank))


def shared_grants(grants: Grants, members: int, rank: int) -> Grants:
    """Return a user's grants with one member's share of the concurrent and per-minute limits."""
    concurrent, per_minute, tokens = grants.concurrent_requests, grants.requests_per_minute, grants.tokens_per_minute
    return replace(
        grants,
        concurrent_requests=None if concurrent is None else share_of(concurrent, members, rank),
        requests_per_minute=None if per_minute is None else share_of(per_minute, members, rank),
        tokens_per_minute=None if tokens is None else share_of(tokens, members, rank),
    )


def count_here(
    member: Coordination, own: int, user: str, now: float, concurrent: int | None, per_minute: int | None
) -> bool:
    """Implement `Coordination.count` for a member with the others' exact counts; `own` is its count of the user."""
    if concurrent is not None and own + member.elsewhere(Scope.USER, user) >= concurrent:
        return False
    if per_minute is not None:
        rows = (*member.own_admissions(user, now), *member.admissions(user, now))
        if sum(row.requests for row in rows if row.moment > now - MINUTE_SECONDS) >= per_minute:
            return False
    member.take(Scope.USER, user)
    member.admit(user, now)
    return True
