"""What the workers of one machine share, in memory: the core's `Coordination` between processes."""
