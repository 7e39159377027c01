"""The router's own routes, served by Falcon.

Belongs here: health, status, explain: everything that is not proxied.
Does not belong here: proxied traffic (`relay`).
"""
