"""Reads lines of files, maps them, and remembers how far they are published."""
