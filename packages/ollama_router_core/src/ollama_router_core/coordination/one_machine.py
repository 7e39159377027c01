"""The base of members that see each other's exact counts, in one process or in shared memory."""

from __future__ import annotations

__all__ = ["OneMachineMember"]


class OneMachineMember:
    """The part of `Coordination` that needs no requests to other members.

    Args:
        index: this member's index, from 0.
        size: number of members.
    """

    def __init__(self, index: int, size: int) -> None:
        self.index = index
        self.size = size

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.index})"

    @property
    def shares(self) -> bool:
        """Whether there are other members."""
        return self.size > 1

    @property
    def asks(self) -> bool:
        """False, as the others' counts are exact."""
        return False

    @property
    def members(self) -> int:
        """The number of members."""
        return self.size

    @property
    def rank(self) -> int:
        """The member's index."""
        return self.index

    async def count_of(self, user: str) -> None:
        """Do nothing, as all counts are current."""

    @property
    def others_wait(self) -> bool:
        """False, as no member must be asked."""
        return False

    @property
    def away(self) -> bool:
        """False, as the others are always reachable."""
        return False
