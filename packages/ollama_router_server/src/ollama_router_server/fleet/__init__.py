"""What is known about servers: polling, probing, warm-up, drains."""
