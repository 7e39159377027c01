"""Which route is this, and what does its body mean, strictly: endpoints, requests, model names, error bodies."""
