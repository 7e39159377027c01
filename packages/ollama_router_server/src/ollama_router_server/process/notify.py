"""Telling systemd how the service is (`sd_notify`), where systemd asked to be told."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress

__all__ = ["Notifier"]


class Notifier:
    """Sends datagrams to `$NOTIFY_SOCKET`; without it everything is for nobody.

    `watchdog` is the seconds between signs of life: a third of what systemd waits, None when it does not watch.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{name[1:]}" if name.startswith("@") else name
        patience = environment.get("WATCHDOG_USEC", "")
        self.watchdog = int(patience) / 3e6 if self._address and patience.isdigit() and int(patience) else None

    def ready(self) -> None:
        """Connections are accepted; also: a reload is over."""
        self._tell("READY=1")

    def reloading(self, now: float) -> None:
        """The config is being read; `now` is seconds of the monotonic clock."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={int(now * 1e6)}")

    def stopping(self) -> None:
        """No new requests are taken."""
        self._tell("STOPPING=1")

    def alive(self) -> None:
        """The sign of life."""
        self._tell("WATCHDOG=1")

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(0)  # systemd, once gone or stuck, must not hold us up
            sock.sendto(text.encode(), self._address)
