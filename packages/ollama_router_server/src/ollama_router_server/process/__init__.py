"""The process: listening sockets, workers, signals, reload, what a service manager is told."""
