"""Tables, numbers and times for people; colours only on a terminal.

Names of models and users are untrusted: unprintable characters are replaced before they reach a terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ollama_router_cli.rendering.output import clean

__all__ = ["format_bytes", "format_count", "format_ms", "format_time", "make_table", "print_table"]

_MANY = 500
_NOTHING = "-"

_STYLES = {
    "chosen": "bold green",
    "healthy": "green",
    "up": "green",
    "down": "bold red",
    "draining": "yellow",
    "waiting": "yellow",
    "active": "green",
    "refused": "red",
    "unhealthy": "bold red",
    "inactive": "yellow",
    "skipped": "dim",
    "disabled": "dim",
}


def make_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> Table:
    """Build a table; None shows as `-`, columns named in `right` are right-aligned.

    If all headings are empty, the header line is omitted.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(columns), padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        cells = [_NOTHING if cell is None else clean(cell) for cell in row]
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in cells))
    return table


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Print a table; a pipe, or a terminal with too many rows, gets plain lines."""
    rows = list(rows)
    if not sys.stdout.isatty() or len(rows) > _MANY:
        _print_plain(columns, rows, right)
        return
    table = make_table(columns, rows, right=right)
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        sys.stdout.write(f"{line.rstrip()}\n")


def _print_plain(columns: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str]) -> None:
    """Print rows without colours and wrapping: rich takes 2 ms per row."""
    lines = [columns] if any(columns) else []
    lines += [[_NOTHING if cell is None else " ".join(clean(cell).splitlines()) for cell in row] for row in rows]
    named = zip(columns, zip(*lines, strict=True), strict=True) if lines else ()
    padded = [_padded(cells, to_right=name in right) for name, cells in named]
    sys.stdout.writelines(f"{'  '.join(cells).rstrip()}\n" for cells in zip(*padded, strict=True))


def _padded(cells: Sequence[str], *, to_right: bool) -> list[str]:
    """Pad cells to the widest of them on a terminal; the width of ASCII text is its length."""
    widths = list(map(len if all(map(str.isascii, cells)) else cell_len, cells))
    most = max(widths)
    if to_right:
        return [f"{' ' * (most - width)}{cell}" for cell, width in zip(cells, widths, strict=True)]
    return [f"{cell}{' ' * (most - width)}" for cell, width in zip(cells, widths, strict=True)]


def format_time(seconds: float | None) -> str | None:
    """Format seconds since 1970 as local time, to the second."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def format_ms(milliseconds: float | None) -> str | None:
    """Format a duration: `870 ms`, `4.1 s`, `2 min 5 s`."""
    if milliseconds is None:
        return None
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.1f} s"
    minutes, seconds = divmod(round(milliseconds / 1000), 60)
    return f"{minutes} min {seconds} s"


def format_count(count: int | None) -> str | None:
    """Format a count with thousands separators."""
    return None if count is None else f"{count:,}"


def format_bytes(size: int) -> str:
    """Format a size: `512 B`, `4.6 GiB`."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
