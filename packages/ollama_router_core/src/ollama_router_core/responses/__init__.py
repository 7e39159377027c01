"""What an answer says while it passes: usage, merged lists, progress."""
