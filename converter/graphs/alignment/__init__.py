"""Aligns a graph with an existing module, by structure alone: no weights, no framework."""
