"""What lies on a disk: every kind of file read, and written whole or not at all."""
