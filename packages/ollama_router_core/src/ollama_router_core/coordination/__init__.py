"""State shared by the workers of one machine or by several routers: one interface and its in-process implementation.

Counts are leases, facts are news, figures are published. Decisions are local: they read a member's current state and
never wait for another member. Implementations outside the core do the I/O.
"""
