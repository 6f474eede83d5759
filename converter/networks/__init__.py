"""The supported networks: catalog, mapping tables, naming styles, detection and matching."""
