"""Shared state of a router's workers and of several routers: implementations of the core's `Coordination`."""
