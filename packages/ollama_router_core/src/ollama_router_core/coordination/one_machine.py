"""What holds for members that see each other's counts as they are: in one process, or in memory that they share."""

from __future__ import annotations

__all__ = ["OneMachineMember"]


class OneMachineMember:
    """The answers of `Coordination` that need no asking.

    Args:
        index: which member this is.
        size: how many there are.
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
        """What is known of the others is true."""
        return False

    @property
    def members(self) -> int:
        """All there are."""
        return self.size

    @property
    def rank(self) -> int:
        """Its index."""
        return self.index

    async def count_of(self, user: str) -> None:
        """Everything is known at any time."""

    @property
    def others_wait(self) -> bool:
        """Nobody has to be asked."""
        return False

    @property
    def away(self) -> bool:
        """The others can always be asked."""
        return False
