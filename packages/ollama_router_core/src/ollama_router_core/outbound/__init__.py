"""What is sent to a destination, and how its answer comes back."""
