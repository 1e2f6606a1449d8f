"""Load, faults and simulated servers: what an assistant is tried with."""
