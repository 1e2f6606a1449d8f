"""Load and stress tests whose numbers can be trusted: the plan, the engine that plays it, the result."""
