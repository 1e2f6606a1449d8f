"""Alerts: rules asked each second, and the messages that tell of them. Knows no store and no server."""
