"""Aligns a graph with a module that somebody else wrote, by structure alone: no weights, no framework."""
