"""What an operator sees: metrics, traces, structured logs, log files."""
