"""Toolbox: what an assistant does, measured; usable without the server. Knows no other toolbox."""
