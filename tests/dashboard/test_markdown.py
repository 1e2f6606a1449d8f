"""The Markdown renderer, run inside Chromium: what it draws, that it is safe, that pieces do not matter."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboard import payloads
from e2e.browser import Watched

pytestmark = pytest.mark.browser

RENDER = """async ([text, cuts]) => {
  const { MarkdownStream } = await import("/assets/markdown.js");
  const root = document.createElement("div");
  const stream = new MarkdownStream(root);
  let from = 0;
  for (const cut of [...cuts, text.length]) {
    stream.push(text.slice(from, cut));
    from = cut;
  }
  stream.finish();
  for (const bar of root.querySelectorAll(".code-bar button")) bar.remove();
  return root.innerHTML;
}"""

FACTS = """async (text) => {
  const { markdown } = await import("/assets/markdown.js");
  const root = document.createElement("div");
  document.body.append(root);
  markdown(text, root);
  const own = [...root.querySelectorAll("*")].filter((node) => !node.closest(".code-bar"));
  const facts = {
    tags: [...new Set(own.map((node) => node.localName))],
    attributes: [...new Set(own.flatMap((node) => node.getAttributeNames()))],
    links: own.filter((node) => node.localName === "a").map((node) => [node.protocol, node.rel, node.target]),
    text: root.textContent,
  };
  await new Promise((done) => setTimeout(done));
  root.remove();
  return facts;
}"""

TAGS = {
    "p",
    "h3",
    "h4",
    "h5",
    "h6",
    "em",
    "strong",
    "del",
    "code",
    "pre",
    "div",
    "ul",
    "ol",
    "li",
    "blockquote",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "hr",
    "br",
    "a",
    "span",
}
ATTRIBUTES = {
    "class",
    "dir",
    "href",
    "rel",
    "target",
    "title",
    "start",
    "scope",
    "tabindex",
    "role",
    "aria-label",
}


def render(blank: Watched, text: str, cuts: tuple[int, ...] = ()) -> str:
    """The markup that a text becomes, pushed in pieces that end at `cuts`; without attributes that are always there."""
    drawn: str = blank.page.evaluate(RENDER, [text, list(cuts)])
    fixed = r' rel="noopener noreferrer" target="_blank" title="[^"]*"| dir="(auto|ltr)"'
    return re.sub(fixed, "", drawn)


CASES = {
    "paragraphs": ("one\n\ntwo", "<p>one</p><p>two</p>"),
    "line break": ("one\ntwo", "<p>one<br>two</p>"),
    "break tag": ("one<br>two<br/>", "<p>one<br>two<br></p>"),
    "heading": ("# A *b*\n## C ##", '<h3 class="size-1">A <em>b</em></h3><h4 class="size-2">C</h4>'),
    "no heading": ("#tag", "<p>#tag</p>"),
    "emphasis": (
        "*a* _b_ **c** __d__ ~~e~~",
        "<p><em>a</em> <em>b</em> <strong>c</strong> <strong>d</strong> <del>e</del></p>",
    ),
    "nested emphasis": ("**a *b***", "<p><strong>a <em>b</em></strong></p>"),
    "both at once": ("***a***", "<p><strong><em>a</em></strong></p>"),
    "no emphasis": ("5 * 3 * 2, snake_case_name, a ** b", "<p>5 * 3 * 2, snake_case_name, a ** b</p>"),
    "unclosed": ("**a and `b", "<p>**a and `b</p>"),
    "escapes": (r"\*a\* \\ \q", r"<p>*a* \ \q</p>"),
    "entities": ("&lt;b&gt; &amp; &copy; &amp", "<p>&lt;b&gt; &amp; &amp;copy; &amp;amp</p>"),
    "inline code": ("`a*b*` ``c`d``", "<p><code>a*b*</code> <code>c`d</code></p>"),
    "link": ("[a *b*](https://x.test/y)", '<p><a href="https://x.test/y">a <em>b</em></a></p>'),
    "link with title": ('[a](https://x.test "t")', '<p><a href="https://x.test/">a</a></p>'),
    "link with parentheses": ("[a](https://x.test/b_(c))", '<p><a href="https://x.test/b_(c)">a</a></p>'),
    "bare link": ("(see https://x.test/a).", '<p>(see <a href="https://x.test/a">https://x.test/a</a>).</p>'),
    "angle link": ("<https://x.test/>", '<p><a href="https://x.test/">https://x.test/</a></p>'),
    "mail link": ("<mailto:a@b.test>", '<p><a href="mailto:a@b.test">a@b.test</a></p>'),
    "relative link": ("[a](/b)", "<p>[a](/b)</p>"),
    "footnote mark": ("a [1] b [c](https://x.test/)", '<p>a [1] b <a href="https://x.test/">c</a></p>'),
    "image": ("![a](https://x.test/i.png)", '<p><a href="https://x.test/i.png">a</a></p>'),
    "rule": ("a\n\n---\n\n* * *", "<p>a</p><hr><hr>"),
    "bullets": ("- a\n- b", "<ul><li>a</li><li>b</li></ul>"),
    "loose list": ("- a\n\n- b", "<ul><li><p>a</p></li><li><p>b</p></li></ul>"),
    "numbers": ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
    "nested list": (
        "1. a\n   - b\n     - c\n2. d",
        "<ol><li>a<ul><li>b<ul><li>c</li></ul></li></ul></li><li>d</li></ol>",
    ),
    "list below two columns": ("1. a\n  - b\n2. c", "<ol><li>a<ul><li>b</li></ul></li><li>c</li></ol>"),
    "list below four columns": ("- a\n    - b\n    - c", "<ul><li>a<ul><li>b</li><li>c</li></ul></li></ul>"),
    "list after text": ("a:\n- b", "<p>a:</p><ul><li>b</li></ul>"),
    "year is no list": ("It was in\n1998. That is", "<p>It was in<br>1998. That is</p>"),
    "quote": ("> a\n> > b", "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>"),
    "code": (
        "```\na <b>\n```",
        (
            '<div class="code"><div class="code-bar"><span class="language">text</span></div>'
            '<pre tabindex="0"><code>a &lt;b&gt;</code></pre></div>'
        ),
    ),
    "code in a list keeps its blank lines": (
        "- a\n  ```\n  b\n\n\n  c\n  ```",
        (
            '<ul><li>a<div class="code"><div class="code-bar"><span class="language">text</span></div>'
            '<pre tabindex="0"><code>b\n\n\nc</code></pre></div></li></ul>'
        ),
    ),
    "unclosed code": (
        "~~~x\na",
        (
            '<div class="code"><div class="code-bar"><span class="language">x</span></div>'
            '<pre tabindex="0"><code>a</code></pre></div>'
        ),
    ),
    "coloured code": (
        '```py\nif x: "s"  # c\n```',
        (
            '<div class="code"><div class="code-bar"><span class="language">py</span></div>'
            '<pre tabindex="0"><code>'
            '<span class="hl-word">if</span> x: <span class="hl-string">"s"</span>  '
            '<span class="hl-comment"># c</span></code></pre></div>'
        ),
    ),
    "table": (
        "| a | b |\n|---|--:|\n| `x|y` | 2 \\| 3 |\n| 4 |",
        (
            '<div class="table" role="region" tabindex="0" aria-label="Table">'
            '<table><thead><tr><th scope="col">a</th>'
            '<th class="to-right" scope="col">b</th></tr></thead><tbody><tr><td><code>x|y</code></td>'
            '<td class="to-right">2 | 3</td></tr>'
            '<tr><td>4</td><td class="to-right"></td></tr></tbody></table></div>'
        ),
    ),
    "no table": ("a | b\nc | d", "<p>a | b<br>c | d</p>"),
}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES)
def test_markdown_becomes_elements(blank: Watched, text: str, expected: str) -> None:
    """What models write is drawn as they mean it."""
    assert expected == render(blank, text)


@pytest.mark.parametrize("payload", payloads.ALL)
def test_hostile_text_stays_text(blank: Watched, payload: str) -> None:
    """No element, attribute or link beyond the renderer's own; nothing loaded or run."""
    facts = blank.page.evaluate(FACTS, payload)

    assert set() == set(facts["tags"]) - TAGS
    assert set() == set(facts["attributes"]) - ATTRIBUTES
    assert all(
        link in [[p, "noopener noreferrer", "_blank"] for p in ("http:", "https:", "mailto:")]
        for link in facts["links"]
    )
    blank.assert_clean()


def test_there_are_enough_hostile_texts() -> None:
    """The set only grows."""
    assert len(set(payloads.ALL)) >= 79


FRAGMENTS = st.sampled_from(
    [
        "a",
        "b c",
        " ",
        "  ",
        "\n",
        "\n\n",
        "\r\n",
        "- ",
        "* ",
        "1. ",
        "2. ",
        "> ",
        "# ",
        "```",
        "```py\n",
        "\n```\n",
        "~~~",
        "|",
        "| a | b |",
        "\n|---|---|\n",
        "---",
        "*",
        "**",
        "_",
        "~~",
        "`",
        "[x](https://a.test)",
        "[",
        "](",
        ")",
        "https://a.test/b",
        "<br>",
        "&lt;",
        "\\",
        "    ",
        "\t",
        "<script>",
        "1",
        ".",
        "x = 1  # y",
    ]
)


PARTS = st.lists(FRAGMENTS, max_size=40)
FEW = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(max_examples=4_000, deadline=None, suppress_health_check=list(HealthCheck))


@FEW
@given(parts=PARTS, data=st.data())
def test_pieces_do_not_matter(blank: Watched, parts: list[str], data: st.DataObject) -> None:
    """However a text is cut into pieces, the elements are the same as drawn at once."""
    check_pieces(blank, parts, data)


@pytest.mark.long
@pytest.mark.timeout(900)
@MANY
@given(parts=PARTS, data=st.data())
def test_pieces_do_not_matter_at_length(blank: Watched, parts: list[str], data: st.DataObject) -> None:
    """The same, with the full count."""
    check_pieces(blank, parts, data)


def check_pieces(blank: Watched, parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=25).map(sorted))

    assert render(blank, text) == render(blank, text, tuple(cuts))


HOSTILE = {
    "stars": "*a ",
    "runs": "**a*b***",
    "underscores": "_a_ __b ",
    "tildes": "~~a ",
    "brackets": "[",
    "links": "[a](",
    "closers": "](",
    "fences": "`a``b```",
    "images": "![",
    "angles": "<",
    "urls": "http://",
    "mails": "<mailto:",
    "escapes": "\\",
    "ampersands": "&a",
    "quotes": "> ",
    "dashes": "- ",
    "numbers": "1. ",
    "nested lists": "- a\n  ",
    "bars": "|",
    "rows": "|a\n",
    "table heads": "|a|\n|-|\n",
    "hashes": "#",
    "hash lines": "# #\n",
    "spaces": " ",
    "rules": "- - -x\n",
    "tilde fences": "~~~\n",
    "tick fences": "```\n",
    "parentheses": "(",
    "nested emphasis": "*a **b ",
    "text": "word ",
}

TIMED = """async ([unit, size]) => {
  const { MarkdownStream } = await import("/assets/markdown.js");
  const text = unit.repeat(Math.ceil(size / unit.length));
  const stream = new MarkdownStream(document.createElement("div"));
  const started = performance.now();
  const eighth = text.length / 8;
  for (let part = 0; part < 8; part += 1) stream.push(text.slice(eighth * part, eighth * (part + 1)));
  stream.finish();
  return performance.now() - started;
}"""


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_hostile_length_does_not_hang_the_page(blank: Watched, unit: str) -> None:
    """40 KB of one pattern, in pieces: quadratic work would take minutes (a hang guard, not a speed)."""
    assert blank.page.evaluate(TIMED, [unit, 40_000]) < 5_000
