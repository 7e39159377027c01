"""Connections to servers: one narrow interface and the engine behind it.

Belongs here: sockets, HTTP/1.1 towards servers, connection pools.
Does not belong here: which server to use, retries, dialects.
"""
