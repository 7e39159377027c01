"""The state of the servers: polling, probing, discovery, warm-up, drains."""
