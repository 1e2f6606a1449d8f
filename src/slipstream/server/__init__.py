"""The processes of `slipstream serve`: a supervisor, workers in slots, and what they say to each other."""
