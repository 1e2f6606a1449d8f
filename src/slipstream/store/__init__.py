"""Engines and their SQL: what survives a restart."""
