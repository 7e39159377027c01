"""Observability: metrics, traces, structured logs, log files."""
