"""Forwards of the source parameters that share no code with ``resnext_torch``."""
