"""Notifications to systemd (`sd_notify`), if systemd requests them."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress

__all__ = ["Notifier"]


class Notifier:
    """Send datagrams to `$NOTIFY_SOCKET`; without that variable, every method is a no-op.

    Attributes:
        watchdog: seconds between calls of `alive`, a third of the watchdog's timeout; None without a watchdog.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{name[1:]}" if name.startswith("@") else name
        timeout = environment.get("WATCHDOG_USEC", "")
        self.watchdog = int(timeout) / 3e6 if self._address and timeout.isdigit() and int(timeout) else None

    def ready(self) -> None:
        """Report that connections are accepted, or that a reload has finished."""
        self._send("READY=1")

    def reloading(self, now: float) -> None:
        """Report that a reload has started; `now` is monotonic, in seconds."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(now * 1e6)}")

    def succeeded(self, pid: int) -> None:
        """Report the process that replaces this one."""
        self._send(f"MAINPID={pid}")

    def stopping(self) -> None:
        """Report that the service is draining."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(0)  # an absent or stuck systemd must not delay us
            sock.sendto(text.encode(), self._address)
