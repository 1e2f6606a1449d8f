"""Searches for limits on disk, beside the results of load tests."""

import contextlib

import msgspec

from slipstream.config.settings import Settings
from slipstream.core.errors import ConfigurationError
from slipstream.testing.load import results
from slipstream.testing.load.limit import Limit

FOLDER = "stress"
LISTED_BY = "slipstream stress list"


def store(found: Limit, settings: Settings) -> Limit:
    """Keep a limit; the same with its id. Raises `ConfigurationError` or `OSError`."""
    named = msgspec.structs.replace(found, id=results.new_name(found.started_wall_ns))
    folder = results.folder(settings, FOLDER)
    results.put(folder, named.id, msgspec.json.encode(named), kept=settings.testing.kept)
    return named


def stored(settings: Settings) -> list[Limit]:
    """All that are kept, the newest first; files that are none of ours are left out."""
    found = []
    for path in results.files(results.folder(settings, FOLDER)):
        with contextlib.suppress(ConfigurationError):
            found.append(results.read(path, Limit, listed_by=LISTED_BY))
    return found


def find(name: str, settings: Settings) -> Limit:
    """One by its id, or the beginning of it; `last` = the newest; or a file that was exported as JSON.

    Raises `ConfigurationError` where none, or more than one, is meant.
    """
    path = results.one(name, results.folder(settings, FOLDER), listed_by=LISTED_BY)
    return results.read(path, Limit, listed_by=LISTED_BY)
