"""Routing: filters, strategies, the decision and its explanation, and retries along the ranking."""
