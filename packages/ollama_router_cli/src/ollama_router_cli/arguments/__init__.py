"""What is typed: options that several commands share, and how their values are read."""
