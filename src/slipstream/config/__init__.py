"""Settings: frozen structs, read from `slipstream.toml`, the environment and flags."""
