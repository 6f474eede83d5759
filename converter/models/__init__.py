"""The models, and which tensor of a file is which of a model's: names, shapes, graphs."""
