"""`orouter init --split-gpus`: one Ollama per GPU of this machine."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from ollama_router_cli.arguments.options import option
from ollama_router_cli.errors import CommandFailed
from ollama_router_cli.rendering.output import print_note, print_result
from ollama_router_cli.sources.local_gpus import Gpu, list_gpus
from ollama_router_core.config import ProbedServer, render_starter
from ollama_router_core.config.gpu_units import (
    DEFAULT_OLLAMA,
    GpuGroup,
    apply_commands,
    render_unit,
    undo_commands,
    unit_name,
)

__all__ = ["OPTIONS", "GpuSplit", "print_split", "read_split", "split_config", "write_file", "write_split"]

_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")

OPTIONS = (
    option("split_gpus", bool, "Run one Ollama per GPU: print systemd units and the config.", default=False),
    option(
        "gpus",
        str | None,
        "GPUs of each Ollama, such as '0 1 2,3'. Default: one Ollama per GPU that nvidia-smi or rocm-smi lists.",
        metavar="GROUPS",
    ),
    option("write", bool, "With --split-gpus: install them, after confirmation.", default=False),
    option(
        "unit_folder", Path, "Where --write installs the units.", default=Path("/etc/systemd/system"), metavar="DIR"
    ),
    option("yes", bool, "With --write: do not ask for confirmation.", default=False),
)
"""The options of `init` about GPUs."""


@dataclass(frozen=True, slots=True)
class GpuSplit:
    """The groups to create, and whether and where to install their units."""

    groups: tuple[GpuGroup, ...]
    write: bool
    folder: Path
    asks: bool


def read_split(typed: Mapping[str, Any]) -> GpuSplit | None:
    """Read the options; None without `--split-gpus`.

    Raises:
        typer.BadParameter: an option needs `--split-gpus`, or the groups are invalid.
    """
    if not typed["split_gpus"]:
        if typed["gpus"] is not None or typed["write"]:
            raise typer.BadParameter("--gpus and --write need --split-gpus")
        return None
    known = list_gpus()
    groups = _groups(typed["gpus"], known)
    return GpuSplit(groups, typed["write"], typed["unit_folder"], not typed["yes"])


def split_config(split: GpuSplit) -> str:
    """Render the config with one server per group."""
    return render_starter(
        [ProbedServer(name=group.name, host="127.0.0.1", port=group.port, gpus=group.memory) for group in split.groups]
    )


def print_split(split: GpuSplit, config: Path) -> None:
    """Print the units, the config, the commands that start them, and those that undo everything."""
    for group in split.groups:
        print_result(f"# {split.folder / unit_name(group)}\n{render_unit(group, ollama=_ollama())}")
    print_result(f"# {config}\n{split_config(split)}")
    print_result(f"# to start them\n{_shown(apply_commands(split.groups))}\n")
    print_result(f"# to undo it\n{_shown(undo_commands(split.groups, str(split.folder)))}")


def write_split(split: GpuSplit) -> None:
    """Install the units and start them in place of the usual service, after confirmation.

    Raises:
        CommandFailed: a file cannot be written, or systemctl fails.
        typer.Abort: the answer was no.
    """
    names = ", ".join(unit_name(group) for group in split.groups)
    if split.asks:
        typer.confirm(f"Install {names} in {split.folder} and stop ollama.service?", abort=True, err=True)
    for group in split.groups:
        write_file(split.folder / unit_name(group), render_unit(group, ollama=_ollama()))
    for command in apply_commands(split.groups):
        _run(command)
    print_note(f"installed {names}; to undo it:\n{_shown(undo_commands(split.groups, str(split.folder)))}")


def _groups(text: str | None, known: Sequence[Gpu]) -> tuple[GpuGroup, ...]:
    parts = [[gpu.number] for gpu in known] if text is None else [part.split(",") for part in text.split()]
    if not parts:
        raise typer.BadParameter("neither nvidia-smi nor rocm-smi lists a GPU; name them with --gpus '0 1 2,3'")
    numbers = [gpu for part in parts for gpu in part]
    if any(not gpu or not _ALLOWED.issuperset(gpu) for gpu in numbers) or len(set(numbers)) < len(numbers):
        raise typer.BadParameter("--gpus: expected numbers of GPUs, each once, such as '0 1 2,3'")
    vendor = known[0].vendor if known else "nvidia"
    sizes = {gpu.number: gpu.memory for gpu in known}
    return tuple(
        GpuGroup(number=number, gpus=tuple(part), vendor=vendor, memory=_memory(part, sizes))
        for number, part in enumerate(parts)
    )


def _memory(gpus: Iterable[str], sizes: Mapping[str, float]) -> tuple[float, ...]:
    found = [sizes.get(gpu) for gpu in gpus]
    return () if None in found else tuple(size for size in found if size is not None)


def _ollama() -> str:
    return shutil.which("ollama") or DEFAULT_OLLAMA


def _shown(commands: Iterable[Sequence[str]]) -> str:
    return "\n".join(shlex.join(command) for command in commands)


def write_file(path: Path, text: str) -> None:
    """Write a file.

    Raises:
        CommandFailed: it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandFailed(f"cannot write {path}: {error.strerror}") from None


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - words of our own
    except OSError as error:
        raise CommandFailed(f"cannot run {command[0]}: {error.strerror}") from None
    if done.returncode and command[1] != "disable":  # there may be no service yet
        raise CommandFailed(f"{shlex.join(command)}: {done.stderr.strip() or f'exit code {done.returncode}'}")
