"""The process: listening sockets, workers, signals, reload, and notifications to the service manager."""
