"""The chat page as a person uses it: long conversations, other scripts, a change of mind, the keyboard alone."""

import json

import pytest
from playwright.sync_api import Browser, Page, expect

from dashboard.backend import Scene
from e2e.browser import AWAY, Watched, watched_page

pytestmark = pytest.mark.browser

PARIS = "The capital of France is Paris."

SIDE = """(selector) => [...document.querySelectorAll(selector)].map((node) => {
  const range = document.createRange();
  range.selectNodeContents(node);
  const [text, box] = [range.getBoundingClientRect(), node.getBoundingClientRect()];
  return box.right - text.right < text.left - box.left ? "right" : "left";
})"""


def ask(page: Page, text: str) -> None:
    """Write a question, press Enter, wait for the end of the answer."""
    page.locator("#question").fill(text)
    page.locator("#question").press("Enter")
    page.locator(".answer:last-child .foot").wait_for()


def turns(count: int) -> str:
    """A stored conversation of `count` questions, each with an answer of some Markdown."""
    answer = "Some **text** with `code`:\n\n```python\nprint('hello')\n```\n\n- one\n- two\n\n| a | b |\n|---|--:|\n| 1 | 2 |"
    messages = []
    for number in range(count):
        messages.append({"role": "user", "text": f"Question {number}"})
        messages.append(
            {
                "role": "assistant",
                "text": answer,
                "model": "m",
                "state": "done",
                "finish": "stop",
                "timing": None,
            }
        )
    return json.dumps({"messages": messages, "model": ""})


def test_text_from_right_to_left(chat: Watched, scene: Scene) -> None:
    """Arabic stands at the right, with its list marks; code and English beside it do not turn round."""
    page = chat.page
    text = "# مرحبا\n\nباريس عاصمة فرنسا\n\n- فرنسا\n\n> اقتباس\n\n```python\nprint(1)\n```\n\nEnglish again."  # noqa: RUF001
    scene.answers = {"ما عاصمة فرنسا؟": text}
    ask(page, "ما عاصمة فرنسا؟")

    assert page.evaluate(SIDE, ".prose h3") == ["right"]
    assert page.evaluate(SIDE, ".prose > p") == ["right", "left"]
    assert page.evaluate(SIDE, ".prose li, .prose blockquote p") == ["right", "right"]
    assert page.evaluate(SIDE, ".prose pre") == ["left"]
    direction = "node => getComputedStyle(node).direction"
    assert page.locator(".bubble").evaluate(direction) == "rtl"
    page.locator("#question").fill("مرحبا")
    assert page.locator("#question").evaluate(direction) == "rtl"


def test_two_hundred_messages(chat: Watched, scene: Scene) -> None:
    """A long conversation opens at its end, takes further questions, and the model is told all of it."""
    page = chat.open_with(turns(100))
    page.locator(".answer .foot").nth(99).wait_for()
    expect(page.locator("#jump")).to_be_hidden()
    assert page.locator("#scroller").evaluate(AWAY) < 60
    ask(page, "and now?")

    assert len(scene.seen[-1]["messages"]) == 201
    expect(page.locator("#jump")).to_be_hidden()
    page.wait_for_function(f"() => ({AWAY})(document.querySelector('#scroller')) < 60", polling=50)
    assert page.locator(".answer:last-child .prose").inner_text() == PARIS


def test_what_shrinks_for_a_moment_is_no_reader_who_left(chat: Watched, scene: Scene) -> None:
    """A line that is drawn anew, laid out smaller meanwhile, moves the page upwards: it follows all the same."""
    page = chat.open_with(turns(20))
    page.locator(".answer .foot").nth(19).wait_for()
    page.evaluate("""async () => {
      const scroller = document.querySelector("#scroller");
      const { style } = document.querySelector(".answer:last-child");
      const frame = () => new Promise((done) => requestAnimationFrame(done));
      await frame();
      style.display = "none";
      scroller.scrollHeight; // laid out: the end is further up
      style.display = "";
      await frame(); // it is as large as before
      await new Promise((done) => setTimeout(done, 0));
      style.paddingBottom = "400px"; // and grows before the browser tells of the scrolling
      for (let passed = 0; passed < 4; passed += 1) await frame();
    }""")

    assert page.locator("#scroller").evaluate(AWAY) < 60
    expect(page.locator("#jump")).to_be_hidden()


def test_new_chat_can_be_taken_back(chat: Watched, scene: Scene) -> None:
    """One wrong click loses nothing: until the next question the last chat comes back with one more."""
    page = chat.page
    ask(page, "first")
    page.get_by_role("button", name="New chat").click()
    expect(page.locator("#welcome")).to_be_visible()
    page.get_by_role("button", name="Bring it back").click()
    assert page.locator(".bubble").all_inner_texts() == ["first"]
    expect(page.locator(".notice")).to_have_count(0)
    page.get_by_role("button", name="New chat").click()
    ask(page, "second")

    expect(page.locator(".notice")).to_have_count(0)
    assert [message["content"] for message in scene.seen[-1]["messages"]] == ["second"]


def test_new_chat_in_the_middle_of_an_answer(chat: Watched, scene: Scene) -> None:
    """The answer is stopped, and comes back as far as it came."""
    page = chat.page
    page.locator("#question").fill("/endless")
    page.keyboard.press("Enter")
    page.locator(".prose p").nth(2).wait_for()
    page.get_by_role("button", name="New chat").click()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    page.get_by_role("button", name="Bring it back").click()

    expect(page.locator(".note")).to_have_text("Stopped.")
    assert page.locator(".prose p").first.inner_text() == "Line 0 of a long answer."


def test_draft_survives_a_reload(chat: Watched) -> None:
    """A question that is being written is not lost; one that was sent does not come back."""
    page = chat.page
    page.locator("#question").fill("a long\nthought")
    page.reload()
    expect(page.locator("#question")).to_have_value("a long\nthought")
    page.locator("#question").press("Enter")
    page.locator(".answer .foot").wait_for()
    page.reload()
    page.locator(".answer .foot").wait_for()

    expect(page.locator("#question")).to_have_value("")


def test_change_of_model_is_seen_in_the_conversation(chat: Watched) -> None:
    """Where another model takes over its name stands above its answer, not above each one."""
    page = chat.page
    ask(page, "one")
    ask(page, "two")
    expect(page.locator(".by")).to_have_count(0)
    page.locator("#model").select_option("gpt-oss-120b")
    ask(page, "three")
    ask(page, "four")
    assert page.locator(".by").all_inner_texts() == ["gpt-oss-120b"]
    page.reload()
    page.locator(".answer .foot").nth(3).wait_for()

    assert page.locator(".by").all_inner_texts() == ["gpt-oss-120b"]


@pytest.mark.long
def test_long_code_stays_in_its_box(browser: Browser, page_server: str, scene: Scene) -> None:
    """Lines of code are not broken and do not widen the page: the box scrolls, with the keyboard too."""
    line = "value = " + " + ".join(f"part_{number}" for number in range(60))
    scene.answers = {"code": f"```python\n{line}\n" + "x = 1\n" * 300 + "```"}
    with watched_page(browser, page_server, width=390, height=780, touch=True) as watched:
        page = watched.open()
        page.locator("#picker").wait_for()
        ask(page, "code")
        box = page.locator(".code pre")
        assert page.evaluate("() => document.querySelector('#scroller').scrollWidth") <= 390
        assert box.evaluate("node => node.scrollWidth > node.clientWidth")
        box.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function("() => document.querySelector('.code pre').scrollLeft > 0")
        watched.assert_clean()


def test_whole_chat_by_keyboard(chat: Watched, scene: Scene) -> None:
    """Ask, stop, ask again, edit, choose a model and look at the steps without a pointer."""
    page = chat.page
    page.keyboard.type("/endless")
    page.keyboard.press("Enter")
    page.locator(".prose p").nth(2).wait_for()
    page.keyboard.press("Escape")
    expect(page.locator(".note")).to_have_text("Stopped.")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("hello")
    page.keyboard.press("Enter")
    expect(page.locator(".answer .prose")).to_have_text(PARIS)
    for name in ("Answer again", "Copy answer"):
        page.keyboard.press("Shift+Tab")
        assert page.evaluate("() => document.activeElement.getAttribute('aria-label')") == name
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    expect(page.locator(".wf-grid")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".wf-tip")).to_contain_text("The key is checked.")
    page.locator("#model").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#question")).to_be_focused()
    page.keyboard.type("again")
    page.keyboard.press("Enter")
    page.locator(".answer").nth(1).locator(".foot").wait_for()

    assert scene.seen[-1]["model"] == "gpt-oss-120b"
    assert [message["content"] for message in scene.seen[-1]["messages"]][::2] == ["hello", "again"]
