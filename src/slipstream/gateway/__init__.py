"""HTTP and nothing else: the protocol on the public port, the OpenAI dialect, the admin routes."""
