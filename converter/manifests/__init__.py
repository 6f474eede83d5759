"""The manifest of a converted file: its schema, writing and reading it, checking the file by it."""
