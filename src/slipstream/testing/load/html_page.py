"""The frame of a report page: style, security policy, cards, tables. Loads nothing, runs no script."""

import base64
import hashlib
import html
from collections.abc import Mapping, Sequence

STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#667080;--line:#dfe3e8;--bad:#b42318;--ok:#067647}
:root{--l0:#1f6feb;--l1:#d9730d;--l2:#0a8f6b;--l3:#8250df}
@media(prefers-color-scheme:dark){:root{--bg:#12151a;--fg:#e6e9ee;--dim:#98a2b3;--line:#2a3038;--bad:#ff8a7a;
--ok:#5fd3a1;--l0:#6ea8fe;--l1:#ffb067;--l2:#5fd3a1;--l3:#c6a5ff}}
body{background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:62rem;
padding:0 1rem}h1{font-size:1.4rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .5rem}
.dim,.none{color:var(--dim)}
.stamp{border:2px solid var(--bad);color:var(--bad);padding:.5rem .8rem;margin:1rem 0;border-radius:.4rem}
.bad{color:var(--bad)}.cards{display:grid;grid-template-columns:repeat(4,1fr);gap:.6rem}
.card{border:1px solid var(--line);border-radius:.5rem;padding:.6rem .8rem}
.card b{display:block;font-size:1.3rem}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
td,th{text-align:right;padding:.25rem .6rem;border-bottom:1px solid var(--line)}th{font-weight:600}
td:first-child,th:first-child{text-align:left}small{color:var(--dim);white-space:nowrap}svg{width:100%;height:auto}
.grid{stroke:var(--line);fill:none}.tick,.name{fill:var(--dim);font-size:11px}.end{text-anchor:end}
.mid{text-anchor:middle}.line{fill:none;stroke-width:1.8;stroke-linecap:round}.key{font-size:12px}path.l0{stroke:var(--l0)}
path.l1{stroke:var(--l1)}path.l2{stroke:var(--l2)}path.l3{stroke:var(--l3)}text.l0{fill:var(--l0)}
text.l1{fill:var(--l1)}text.l2{fill:var(--l2)}text.l3{fill:var(--l3)}path.lb{stroke:var(--bad)}text.lb{fill:var(--bad)}td:first-child{min-width:9rem}
circle.lb{fill:var(--bad)}circle.l0{fill:var(--l0)}circle.l1{fill:var(--l1)}circle.l2{fill:var(--l2)}circle.l3{fill:var(--l3)}
@media(max-width:40rem){.cards{grid-template-columns:repeat(2,1fr)}.tick,.name,.key{font-size:18px}
td:first-child{min-width:7rem;position:sticky;left:0;background:var(--bg)}}
"""


def document(title: str, body: str) -> str:
    """A whole page; `body` is HTML, whose texts were made `safe`."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return "".join(
        [
            "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            "<meta name='viewport' content='width=device-width,initial-scale=1'>",
            f"<title>{safe(title)}</title><style>{STYLE}</style></head><body>",
            f"<h1>{safe(title)}</h1>{body}</body></html>\n",
        ]
    )


def cards(figures: Mapping[str, str]) -> str:
    """The figures that are seen first."""
    inner = "".join(
        f"<div class='card'><span class='dim'>{safe(name)}</span><b>{safe(value)}</b></div>"
        for name, value in figures.items()
    )
    return f"<div class='cards'>{inner}</div>"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts; its first column names the row. Without heads, of pairs."""
    first = f"<tr>{''.join(f'<th>{safe(each)}</th>' for each in heads)}</tr>" if heads else ""
    lines = (f"<tr>{''.join(f'<td>{safe(each)}</td>' for each in row)}</tr>" for row in rows)
    return f"<div class='wide'><table>{first}{''.join(lines)}</table></div>"


def safe(text: str) -> str:
    """Text as it may stand in HTML."""
    return html.escape(text, quote=True)
