"""Words and decisions that every part shares. Imports nothing of ours, does no I/O."""
