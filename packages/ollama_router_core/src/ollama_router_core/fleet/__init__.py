"""What is believed about each server, and as of when: facts, memory, speeds, breakers."""
