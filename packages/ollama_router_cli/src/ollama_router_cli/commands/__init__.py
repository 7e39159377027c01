"""The commands: one module or package per subcommand of `orouter`."""
