"""Modules that somebody else wrote: found by name, built, run, and reduced to what an alignment compares."""
