"""The state of each server with its timestamps: facts, memory, speeds, breakers."""
