"""The documentation of the settings, held to the structs."""

from pathlib import Path

from slipstream.config import names, template

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"


def test_every_setting_says_what_it_does() -> None:
    """Every setting and every table has a description that is a sentence."""
    for each in names.every():
        assert each.description.endswith("."), names.written(each.path)
        if isinstance(each, names.Table) and (entry := names.section_of(each.entry)):
            for inner in names.every(entry):
                assert inner.description.endswith("."), names.written((*each.path, *inner.path))


def test_page_is_current() -> None:
    """docs/settings.md says what the structs say; `make docs` writes it."""
    assert PAGE.read_text(encoding="utf-8") == template.page()
