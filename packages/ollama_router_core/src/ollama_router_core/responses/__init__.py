"""Reads and merges responses: usage, lists, progress."""
