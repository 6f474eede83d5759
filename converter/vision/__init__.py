"""Converted networks at work on images."""
