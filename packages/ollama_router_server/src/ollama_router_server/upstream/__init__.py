"""Connections to servers: one narrow interface and the engine behind it."""
