"""Sources of parameters: local files and archives, random numbers, GluonCV's cache and server."""
