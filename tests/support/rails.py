"""The database of the application that this project replaces, as its migrations make it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import bcrypt

__all__ = ["create_rails_database", "rails_digest"]

_SCHEMA = """
CREATE TABLE users (
    id integer PRIMARY KEY AUTOINCREMENT NOT NULL, email varchar, name varchar, api_token varchar, token_digest varchar,
    active boolean DEFAULT 1, created_at datetime(6) NOT NULL, updated_at datetime(6) NOT NULL);
CREATE UNIQUE INDEX index_users_on_name ON users (name);
CREATE TABLE request_logs (
    id integer PRIMARY KEY AUTOINCREMENT NOT NULL, user_id integer NOT NULL, http_method varchar, path varchar,
    ollama_model varchar, server_used varchar, response_status integer, response_time_ms decimal(10,2),
    error_message text, created_at datetime(6) NOT NULL, updated_at datetime(6) NOT NULL);
"""


def rails_digest(token: str) -> str:
    """A digest as Ruby's bcrypt writes it."""
    return bcrypt.hashpw(token.encode(), bcrypt.gensalt(4, prefix=b"2a")).decode()


def create_rails_database(path: Path, users: Sequence[tuple[object, ...]], logs: Sequence[tuple[object, ...]]) -> Path:
    """Write a file.

    Args:
        path: where.
        users: name, token in clear, digest, active.
        logs: user id, path, model, server, status, milliseconds, error.
    """
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(_SCHEMA)
        connection.executemany(
            "INSERT INTO users (name, api_token, token_digest, active, email, created_at, updated_at)"
            " VALUES (?, ?, ?, ?, 'someone@example.org', '2025-01-31 12:00:00.5', '2025-01-31 12:00:00.5')",
            users,
        )
        connection.executemany(
            "INSERT INTO request_logs (user_id, path, ollama_model, server_used, response_status, response_time_ms,"
            " error_message, http_method, created_at, updated_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 'POST', '2025-02-01 00:00:00.25', '2025-02-01 00:00:00.25')",
            logs,
        )
    return path
