"""The web console: the data of `/router/...` as pages, for users signed in with a cookie.

The console has no privileges of its own: every action is a route of `admin` with the same roles.
"""
