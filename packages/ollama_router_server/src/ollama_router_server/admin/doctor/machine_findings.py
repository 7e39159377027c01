"""Findings about this machine: config, certificate, database, disk, open files."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from sqlalchemy import URL, make_url

from ollama_router_core.config import without_password
from ollama_router_core.errors import RouterError
from ollama_router_server.admin.doctor.config_warnings import config_smells
from ollama_router_server.admin.doctor.finding import Finding, Installation
from ollama_router_server.http.certificates import trust_in
from ollama_router_server.http.file_limit import most_connections, raise_file_limit
from ollama_router_server.storage.database import describe_url, sqlite_path
from ollama_router_server.storage.row_spill import spill_folder
from ollama_router_server.storage.upgrade import check_database

__all__ = ["LOOPBACK", "SOON", "certificate_finding", "machine_findings"]

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_LEAST_FREE = 1 << 30  # bytes
_FEW_FREE = 5 << 30
SOON = timedelta(days=21).total_seconds()
"""Seconds of remaining validity below which a certificate causes a warning."""


def machine_findings(installed: Installation, *, now: float) -> Iterator[Finding]:
    """Check what needs no other machine; `now` is seconds since 1970."""
    yield from _config(installed)
    if installed.config.tls.certificate is not None:
        yield certificate_finding(installed.config.tls.certificate, installed.config.tls.key, now=now)
    yield from _database(installed)
    yield from _waiting_rows(installed)
    yield _open_files(installed)


def certificate_finding(certificate: str, key: str | None, *, now: float) -> Finding:
    """Report the remaining validity of the router's own certificate, from an in-memory handshake."""
    try:
        until = _valid_until(certificate, key)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or "is not a certificate with its key"
        if isinstance(error, ssl.SSLCertVerificationError):
            reason = error.verify_message
        fix = "put a certificate and its key there, then: systemctl reload ollama-router"
        return Finding.error("tls", f"{certificate}: {reason}", fix)
    days = (until - now) / 86_400
    reason = f"{certificate} is valid for {days:.0f} more days"
    if until - now < SOON:
        return Finding.warning("tls", reason, "renew it, then: systemctl reload ollama-router")
    return Finding.ok("tls", reason)


def _valid_until(certificate: str, key: str | None) -> float:
    serving, asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), trust_in(certificate)
    serving.load_cert_chain(certificate, key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    client = asking.wrap_bio(to_client, to_server)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    found = client.getpeercert() or {}
    return ssl.cert_time_to_seconds(str(found["notAfter"]))


def _config(installed: Installation) -> Iterator[Finding]:
    config = installed.config
    found = list(config_smells(installed))
    if config.proxy_host not in LOOPBACK and config.tls.certificate is None and not config.trusted_proxies:
        reason = (
            f"tokens cross the network in the clear: it listens on {config.proxy_host} without `tls`, and no proxy "
            "that ends TLS is in `trusted_proxies`"
        )
        fix = "tls: {certificate: FILE, key: FILE} in the config, or trusted_proxies: [ADDRESS]"
        found.append(Finding.warning("config", reason, fix))
    if installed.path is not None and _others_read_secret(installed, installed.path):
        reason = f"every user of this machine can read {installed.path}, which contains the database password"
        yield Finding.warning("config", reason, f"chmod 600 {installed.path}")
    yield from found
    if not found:
        yield Finding.ok("config", installed.source)


def _others_read_secret(installed: Installation, path: Path) -> bool:
    url = installed.config.database_url
    return bool(url and without_password(url) != url and path.stat().st_mode & stat.S_IROTH)


def _database(installed: Installation) -> Iterator[Finding]:
    url, path = installed.database_url, sqlite_path(installed.database_url)
    shown = describe_url(url)
    yield _disk(installed, path)
    if path is not None and not path.exists():
        yield _missing(shown, path)
        return
    if path is not None and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        reason = f"other users of this machine can read {path}, which contains token digests"
        yield Finding.warning("database", reason, f"chmod 600 {path}")
    try:
        state = asyncio.run(check_database(url))
    except RouterError as error:
        fix = "orouter db status" if path is not None else f"pg_isready -d '{_without_password(url)}'"
        if path is not None and "not a database" in error.message:
            fix = f"mv {path} {path}.broken, then: orouter db restore BACKUP"
        yield Finding.error("database", f"{shown}: {error.message}", fix)
        return
    reason = f"{shown} is at revision {state.current}"
    if state.usable:
        yield Finding.ok("database", reason)
        return
    reason += f", this release needs {state.newest}" if state.known else ", which this release does not know"
    yield Finding.error("database", reason, state.remedy)


def _missing(shown: str, path: Path) -> Finding:
    nearest = next(parent for parent in path.parents if parent.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return Finding.ok("database", f"{shown} does not exist yet; the first start creates it")
    reason = f"{shown} does not exist, and this user cannot create it in {nearest}"
    return Finding.error("database", reason, "database_url in the config; or as root: install -d -m 700 -o USER FOLDER")


def _without_password(url: str) -> str:
    found = make_url(url)
    return URL.create("postgresql", found.username, None, found.host, found.port, found.database).render_as_string()


def _disk(installed: Installation, database: Path | None) -> Finding:
    """Check free space at SQLite's file, or at the spill folder of PostgreSQL."""
    beside = database or spill_folder(installed.database_url, installed.variables)
    folder = next(parent for parent in beside.parents if parent.is_dir())
    free = shutil.disk_usage(folder).free
    reason = f"{free / (1 << 30):.1f} GiB are free at {folder}"
    if free >= _FEW_FREE:
        return Finding.ok("disk", reason)
    if database is None:
        reason += ", where log rows wait while the database is unavailable"
        fix = f"du -xh {folder} | sort -h | tail shows what uses it"
    else:
        fix = "orouter logs cleanup, and a smaller request_log.keep_days; "
        fix += f"then, without routers: sqlite3 {database} VACUUM"
    return Finding(subject="disk", severity="error" if free < _LEAST_FREE else "warning", reason=reason, fix=fix)


def _waiting_rows(installed: Installation) -> Iterator[Finding]:
    folder = spill_folder(installed.database_url, installed.variables)
    size = sum(file.stat().st_size for file in folder.glob("*.jsonl")) if folder.is_dir() else 0
    if size:
        reason = f"{size:,} bytes of log rows wait for the database in {folder}"
        yield Finding.warning("request log", reason, "orouter db status")


def _open_files(installed: Installation) -> Finding:
    raise_file_limit()  # as the router does at its start
    room, wanted = most_connections(), installed.config.limits.max_connections
    reason = f"a process of this user has files for {room:,} client connections, the config allows {wanted:,}"
    if room >= min(wanted, 1_000):
        return Finding.ok("open files", reason)
    return Finding.warning("open files", reason, "LimitNOFILE=65536 in the unit, or: ulimit -n 65536")
