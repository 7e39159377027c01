"""Connections to servers: one narrow interface and the engine that implements it."""
