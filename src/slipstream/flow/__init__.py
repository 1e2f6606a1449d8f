"""The way of a request, in order: admit, [select, open]*, relay, record. Opens no socket and no file."""
