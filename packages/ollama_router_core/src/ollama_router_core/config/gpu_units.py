"""One Ollama for each GPU or group of GPUs of a machine: systemd units and the config that goes with them."""

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
"""Where Ollama's installer has the models of the service."""


class GpuGroup(Struct, frozen=True, kw_only=True):
    """GPUs that one Ollama gets, as their vendor's tool numbers them, with their memory in GiB where it is known."""

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
        """Its port on this machine: none that Ollama, its desktop app or the router take."""
        return _FIRST_PORT + self.number


def unit_name(group: GpuGroup) -> str:
    """Return the name of a group's unit file."""
    return f"ollama-{group.name}.service"


def render_unit(group: GpuGroup, *, ollama: str = DEFAULT_OLLAMA) -> str:
    """Render the systemd unit of one group.

    All groups share the models of the usual service, so none of them may remove what another has just written.
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
    """Return the commands that start the units in place of the usual service, once their files are there."""
    return (
        ("systemctl", "daemon-reload"),
        ("systemctl", "disable", "--now", "ollama.service"),
        ("systemctl", "enable", "--now", *[unit_name(group) for group in groups]),
    )


def undo_commands(groups: Sequence[GpuGroup], folder: str) -> tuple[tuple[str, ...], ...]:
    """Return the commands that bring the usual service back; the models stay where they are."""
    return (
        ("systemctl", "disable", "--now", *[unit_name(group) for group in groups]),
        ("rm", *_paths(groups, folder)),
        ("systemctl", "daemon-reload"),
        ("systemctl", "enable", "--now", "ollama.service"),
    )


def _paths(groups: Iterable[GpuGroup], folder: str) -> Iterator[str]:
    return (f"{folder}/{unit_name(group)}" for group in groups)
