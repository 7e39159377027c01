"""The columns of the list of requests: which are shown is in the page's address, so that it can be sent to somebody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

__all__ = ["COLUMNS", "Column", "columns_shown", "switches"]


class Column(Struct, frozen=True, kw_only=True):
    """A column. `kind` are classes of its cells; what is not `usual` is shown to those who ask for it."""

    name: str
    label: str
    kind: str = ""
    usual: bool = True


class Switch(Struct, frozen=True):
    """A column, whether it is shown, and the value of `columns` that changes this alone."""

    column: Column
    shown: bool
    columns: str


COLUMNS: Final = (
    Column(name="time", label="Time"),
    Column(name="user", label="User"),
    Column(name="model", label="Model", kind="mono"),
    Column(name="server", label="Server"),
    Column(name="outcome", label="Outcome"),
    Column(name="place", label="Place", kind="number wide-only"),
    Column(name="waited", label="Waited", kind="number spare"),
    Column(name="first", label="First token", kind="number spare"),
    Column(name="total", label="Total", kind="number"),
    Column(name="parts", label="Where it went"),
    Column(name="tokens", label="Tokens in / cached / out", kind="number"),
    Column(name="path", label="Path", kind="mono wide-only"),
    Column(name="client", label="Client", kind="mono", usual=False),
    Column(name="attempts", label="Attempts", kind="number", usual=False),
    Column(name="bytes", label="Bytes in / out", kind="number", usual=False),
    Column(name="error", label="Error", kind="words", usual=False),
    Column(name="id", label="Id", kind="mono", usual=False),
    Column(name="reason", label="Reason", kind="reason wide-only"),
)
_ALWAYS: Final = COLUMNS[0].name
"""The one with the link."""
_WHERE_ROOM: Final = (" spare", " wide-only")


def columns_shown(asked: str | None) -> tuple[Column, ...]:
    """Return the columns asked for, `NAME,NAME`, in their usual order; the usual ones if nothing is asked for.

    Those that are asked for are shown on narrow screens, too. Names that are no column are left out.
    """
    if not asked:
        return tuple(one for one in COLUMNS if one.usual)
    names = {_ALWAYS, *asked.split(",")}
    return tuple(_everywhere(one) for one in COLUMNS if one.name in names)


def switches(shown: Sequence[Column]) -> list[Switch]:
    """Return the switches that show or hide each column but the first."""
    names = {one.name for one in shown}
    return [
        Switch(one, one.name in names, ",".join(other.name for other in COLUMNS if other.name in names ^ {one.name}))
        for one in COLUMNS
        if one.name != _ALWAYS
    ]


def _everywhere(column: Column) -> Column:
    kind = f" {column.kind}"
    for where in _WHERE_ROOM:
        kind = kind.removesuffix(where)
    return Column(name=column.name, label=column.label, kind=kind.strip(), usual=column.usual)
