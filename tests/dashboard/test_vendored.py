"""Code of others that the pages carry: unchanged, with its licence."""

import hashlib
from importlib import resources

FOLDER = resources.files("slipstream.dashboard") / "static" / "vendor" / "uplot"


def test_uplot_is_the_one_that_was_published() -> None:
    """Every file has the digest that stands in VERSION, and VERSION names every file."""
    heading, *lines = (FOLDER / "VERSION").read_text().splitlines()
    digests = {name: digest for digest, name in (line.split() for line in lines)}

    assert "uPlot 1.6.32" in heading
    assert b"uPlot (v1.6.32)" in (FOLDER / "uPlot.iife.min.js").read_bytes()
    assert "MIT License" in (FOLDER / "LICENSE.txt").read_text()
    assert digests == {
        entry.name: hashlib.sha256(entry.read_bytes()).hexdigest()
        for entry in FOLDER.iterdir()
        if entry.name != "VERSION"
    }
