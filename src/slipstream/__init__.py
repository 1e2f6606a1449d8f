"""The performance layer for AI assistants."""
