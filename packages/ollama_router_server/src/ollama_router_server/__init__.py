"""The ollama-router proxy server.

Belongs here: sockets, storage, processes: everything that does, as the core decides.
Does not belong here: rules of routing, failover, access or accounting (they are in `ollama_router_core`).
"""
