"""Who serves: filters, strategies, the decision and its explanation, and where a failed attempt goes next."""
