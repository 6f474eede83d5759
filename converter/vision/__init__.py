"""Image classification with converted networks."""
