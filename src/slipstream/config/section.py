"""What every section of the settings is, and the bounds that many settings share."""

from typing import Annotated

from msgspec import Meta, Struct

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Bytes = Annotated[int, Meta(ge=1024)]


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every section of the settings is: frozen, by keyword, strict about names."""
