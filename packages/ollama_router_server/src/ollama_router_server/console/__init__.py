"""The web console: what `/router/...` tells, as pages, for people who are signed in with a cookie.

The pages have no powers of their own: whatever they do is a route of `admin` with the same roles.
"""
