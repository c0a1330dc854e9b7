"""Text to program."""
