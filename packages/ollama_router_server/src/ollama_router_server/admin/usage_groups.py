"""Totals of groups, by their current members, whatever their group at the time of a request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from operator import add

from msgspec.structs import astuple

from ollama_router_server.storage.identities import Group
from ollama_router_server.storage.log_series import SeriesRow
from ollama_router_server.storage.log_stats import UsageRow
from ollama_router_server.storage.log_totals import FIGURES

__all__ = ["groups_of_members", "series_by_group", "usage_by_group"]

_Sums = dict[str | None, dict[str, int]]


def groups_of_members(groups: Iterable[Group]) -> dict[str, str]:
    """Map each member of a group to the group's name."""
    return {member: group.name for group in groups for member in group.members}


def usage_by_group(users: Iterable[UsageRow], group_of: Mapping[str, str]) -> tuple[UsageRow, ...]:
    """Return totals by group, most requests first; the name None stands for users without a group, and for no user."""
    found = [UsageRow(name=name, **sums) for name, sums in _sums(users, group_of).items()]
    return tuple(sorted(found, key=lambda row: (-row.requests, row.name or "")))


async def series_by_group(
    pieces: AsyncIterator[Sequence[SeriesRow]], group_of: Mapping[str, str]
) -> AsyncIterator[Sequence[SeriesRow]]:
    """Turn rows of users, ordered by time, into rows of groups: one piece per step, ordered by name."""
    step: list[SeriesRow] = []
    async for rows in pieces:
        for row in rows:
            if step and step[0].start != row.start:
                yield _grouped(step, group_of)
                step = []
            step.append(row)
    if step:
        yield _grouped(step, group_of)


def _grouped(step: Sequence[SeriesRow], group_of: Mapping[str, str]) -> tuple[SeriesRow, ...]:
    sums = _sums(step, group_of)
    names = sorted(sums, key=lambda name: name or "")
    return tuple(SeriesRow(start=step[0].start, name=name, **sums[name]) for name in names)


def _sums(users: Iterable[UsageRow | SeriesRow], group_of: Mapping[str, str]) -> _Sums:
    """Sum as tuples, which is faster for thousands of users."""
    sums: dict[str | None, tuple[int, ...]] = {}
    for user in users:
        group = None if user.name is None else group_of.get(user.name)
        figures = astuple(user)[: len(FIGURES)]
        known = sums.get(group)
        sums[group] = figures if known is None else tuple(map(add, known, figures))
    return {group: dict(zip(FIGURES, figures, strict=True)) for group, figures in sums.items()}
