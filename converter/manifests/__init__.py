"""The manifest of a converted file: schema, writer, reader and checks."""
