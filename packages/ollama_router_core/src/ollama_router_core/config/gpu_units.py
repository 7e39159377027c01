"""Systemd units that run one Ollama per GPU or group of GPUs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from msgspec import Struct

__all__ = ["DEFAULT_OLLAMA", "GpuGroup", "GpuVendor", "apply_commands", "render_unit", "undo_commands", "unit_name"]

GpuVendor = Literal["nvidia", "amd"]

DEFAULT_OLLAMA = "/usr/local/bin/ollama"
_FIRST_PORT = 11441
_VISIBLE = {"nvidia": "CUDA_VISIBLE_DEVICES", "amd": "ROCR_VISIBLE_DEVICES"}
_MODELS = "/usr/share/ollama/.ollama/models"
"""The model directory of the service that Ollama's installer sets up."""


class GpuGroup(Struct, frozen=True, kw_only=True):
    """The GPUs of one Ollama, as numbered by the vendor's tool; `memory` is GiB of each, if known."""

    number: int
    gpus: tuple[str, ...]
    vendor: GpuVendor = "nvidia"
    memory: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """The server's name in the config."""
        return f"gpu{self.number}"

    @property
    def port(self) -> int:
        """The port, distinct from those of Ollama, its desktop app and the router."""
        return _FIRST_PORT + self.number


def unit_name(group: GpuGroup) -> str:
    """Return the name of a group's unit file."""
    return f"ollama-{group.name}.service"


def render_unit(group: GpuGroup, *, ollama: str = DEFAULT_OLLAMA) -> str:
    """Render the systemd unit of one group.

    All groups share the models of the default service, so pruning is off: it would delete another's new files.
    """
    order = ["Environment=CUDA_DEVICE_ORDER=PCI_BUS_ID"] if group.vendor == "nvidia" else []
    lines = [
        "# Written by `orouter init --split-gpus`.",
        "[Unit]",
        f"Description=Ollama on GPU {', '.join(group.gpus)}",
        "After=network-online.target",
        "Conflicts=ollama.service",
        "",
        "[Service]",
        f"ExecStart={ollama} serve",
        "User=ollama",
        "Group=ollama",
        "Restart=always",
        "RestartSec=3",
        f"Environment=OLLAMA_HOST=127.0.0.1:{group.port}",
        *order,
        f"Environment={_VISIBLE[group.vendor]}={','.join(group.gpus)}",
        f"Environment=OLLAMA_MODELS={_MODELS}",
        "Environment=OLLAMA_NOPRUNE=1",
        "",
        "[Install]",
        "WantedBy=default.target",
    ]
    return "\n".join(lines) + "\n"


def apply_commands(groups: Iterable[GpuGroup]) -> tuple[tuple[str, ...], ...]:
    """Return the commands that replace the default service by the units; their files must exist."""
    return (
        ("systemctl", "daemon-reload"),
        ("systemctl", "disable", "--now", "ollama.service"),
        ("systemctl", "enable", "--now", *[unit_name(group) for group in groups]),
    )


def undo_commands(groups: Sequence[GpuGroup], folder: str) -> tuple[tuple[str, ...], ...]:
    """Return the commands that restore the default service; models stay in place."""
    return (
        ("systemctl", "disable", "--now", *[unit_name(group) for group in groups]),
        ("rm", *_paths(groups, folder)),
        ("systemctl", "daemon-reload"),
        ("systemctl", "enable", "--now", "ollama.service"),
    )


def _paths(groups: Iterable[GpuGroup], folder: str) -> Iterator[str]:
    return (f"{folder}/{unit_name(group)}" for group in groups)
