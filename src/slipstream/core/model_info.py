"""What is told of a model that can be asked for."""

from msgspec import Struct


class ModelInfo(Struct, frozen=True):
    """What `GET /v1/models` and `slipstream models` tell of a model."""

    name: str
    owner: str
    backend: str
    state: str
    default: bool
    alias_of: str = ""

    def details(self) -> dict[str, str | bool]:
        """What goes under `slipstream` in a model's entry."""
        details: dict[str, str | bool] = {
            "backend": self.backend,
            "state": self.state,
            "default": self.default,
        }
        if self.alias_of:
            details["alias_of"] = self.alias_of
        return details
