"""What outlives the process: users, their tokens' digests, the request log."""
