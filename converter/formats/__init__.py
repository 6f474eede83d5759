"""File formats, one module each: what Gluon and PyTorch write, and the containers around it."""
