"""The data plane: from a client's request to a server's answer, byte by byte.

Belongs here: everything between ASGI's `receive` and `send` and the upstream engine.
Does not belong here: rules (they are in the core), Falcon, SQL.
"""
