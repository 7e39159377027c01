"""The GPUs of this machine, from the vendors' tools."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from ollama_router_core.config.gpu_units import GpuVendor

__all__ = ["Gpu", "list_gpus"]

_SECONDS = 20.0
_MIB_PER_GIB = 1024.0
_ROCM_ROW = re.compile(r"^GPU\[(\d+)\].*VRAM Total Memory \(B\):\s*(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: its number, and its memory in GiB."""

    number: str
    vendor: GpuVendor
    memory: float


def list_gpus() -> list[Gpu]:
    """List NVIDIA's GPUs, else AMD's; empty if neither vendor's tool answers."""
    return _nvidia() or _amd()


def _nvidia() -> list[Gpu]:
    query = ("nvidia-smi", "--query-gpu=index,memory.total", "--format=csv,noheader,nounits")
    rows = [line.split(",") for line in _output(query).splitlines()]
    return [
        Gpu(row[0].strip(), "nvidia", round(float(row[1]) / _MIB_PER_GIB, 1))
        for row in rows
        if len(row) == 2 and row[1].strip().isdigit()
    ]


def _amd() -> list[Gpu]:
    found = _ROCM_ROW.findall(_output(("rocm-smi", "--showmeminfo", "vram")))
    return [Gpu(number, "amd", round(int(size) / 1024**3, 1)) for number, size in found]


def _output(command: Sequence[str]) -> str:
    """Return a tool's output; empty if it is missing or fails."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed words, found on the path
            command, capture_output=True, text=True, timeout=_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
