"""Users, their tokens and what is left of their limits."""
