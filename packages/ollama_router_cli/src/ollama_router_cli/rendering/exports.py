"""Rows for other programs: CSV and JSON lines."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["write_csv", "write_json_lines"]


def write_json_lines(rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one object per line."""
    sys.stdout.writelines(f"{json.dumps(row)}\n" for row in rows)


def write_csv(rows: Iterable[Sequence[object]]) -> None:
    """Write lines of cells that no spreadsheet takes for formulas."""
    csv.writer(sys.stdout, lineterminator="\n").writerows(map(_safe_cell, row) for row in rows)


def _safe_cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
