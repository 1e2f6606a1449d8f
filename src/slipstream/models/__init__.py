"""The backends that answer: one file each. None knows of another, nor of the way a request takes."""
