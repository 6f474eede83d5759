"""Existing modules: found by name, built, run, and reduced to what an alignment compares."""
