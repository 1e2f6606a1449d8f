"""The client side of the wire: HTTP/1.1, its pool, server-sent events."""
