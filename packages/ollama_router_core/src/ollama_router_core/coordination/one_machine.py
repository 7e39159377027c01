"""The base of members that see each other's exact counts, in one process or in shared memory."""

from __future__ import annotations

__all__ = ["OneMachineMember"]


class OneMachineMember:
    """The part of `Coordination` that needs no requests to other members.

    Args:
        index: this member's index, from 0.
        size: number of members.
    """

    asks = others_wait = away = False  # the others' counts are exact and always reachable

    def __init__(self, index: int, size: int) -> None:
        self.index = self.rank = index
        self.size = self.members = size

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.index})"

    @property
    def shares(self) -> bool:
        """Whether there are other members."""
        return self.size > 1

    async def count_of(self, user: str) -> None:
        """Do nothing, as all counts are current."""
