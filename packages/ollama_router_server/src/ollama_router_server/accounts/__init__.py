"""Users, their tokens and the use of their limits."""
