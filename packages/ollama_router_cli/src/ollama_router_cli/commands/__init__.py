"""The commands: one module, or one package, for each word that follows `orouter`."""
