"""What differs between two configs."""

from __future__ import annotations

from ollama_router_core.config import changed_paths, load_config, needs_restart

OLD = "servers: {a: {host: h}, b: {host: i}}\nproxy_port: 11434\n"


def test_paths_name_the_settings_that_differ():
    """One path for each value; a place that came or went is one path of its own."""
    new = "servers: {a: {host: h, priority: 3}, c: {host: j}}\nqueue: {max_wait: 5}\n"
    assert changed_paths(load_config(OLD), load_config(new)) == (
        "servers.a.priority",
        "servers.b",
        "servers.c",
        "queue.max_wait",
    )


def test_equal_configs_differ_in_nothing():
    """Also when one of them spells a default out."""
    assert changed_paths(load_config(OLD), load_config(OLD + "workers: 1\n")) == ()


def test_paths_hold_no_values():
    """A password in a URL, a key in a header: the path is all that is told."""
    new = OLD + "database_url: postgresql://u:hunter2@h/d\nexternal_hosts: {e: {host: x, headers: {a: hunter2}}}\n"
    paths = changed_paths(load_config(OLD), load_config(new))
    assert paths == ("external_hosts.e", "database_url")
    assert "hunter2" not in " ".join(paths)


def test_what_needs_a_restart_is_known():
    """The address, the number of processes, the database, the log's files."""
    new = OLD.replace("11434", "8000") + "workers: 2\nlogging: {max_files: 3, level: debug}\n"
    paths = changed_paths(load_config(OLD), load_config(new))
    assert needs_restart(paths) == ("proxy_port", "workers", "logging.max_files")
