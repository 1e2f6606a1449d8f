"""Write docs/settings.md from the settings' own descriptions; a test holds it to that."""

from pathlib import Path

from slipstream.config import template

(Path(__file__).parents[1] / "docs" / "settings.md").write_text(template.page(), encoding="utf-8")
