"""The networks known by name: catalog, mapping tables, naming styles, detection, matching."""
