"""The chat page in use: asking, stopping, editing, what it remembers, and how it looks after faults."""

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from dashboard.backend import Backend, Scene
from e2e.browser import AWAY, Watched, watched_page

pytestmark = pytest.mark.browser

PARIS = "The capital of France is Paris."


def ask(page: Page, text: str, *, wait: bool = True) -> None:
    """Write a question and press Enter; wait for the end of the answer."""
    page.locator("#question").fill(text)
    page.locator("#question").press("Enter")
    if wait:
        page.locator(".answer:last-child .foot").wait_for()


def answers(page: Page) -> list[str]:
    return page.locator(".answer .prose").all_inner_texts()


def questions(page: Page) -> list[str]:
    return page.locator(".bubble").all_inner_texts()


def test_question_is_answered_with_its_timing(chat: Watched) -> None:
    """The answer comes as Markdown, the quiet line under it holds the server's figures."""
    page = chat.page
    ask(page, "What is the capital of France?")

    assert answers(page) == [PARIS]
    expect(page.locator(".prose strong")).to_have_text("Paris")
    with page.expect_response(lambda response: "/_slipstream/requests/" in response.url and response.ok):
        ask(page, "And again?")
    figures = page.locator(".answer:last-child .figures")
    expect(figures).to_have_text(re.compile(r"^\d+ ms to first token9 tokens[\d,.]+ tokens/s\d+ ms$"))


def test_waterfall_shows_the_steps_and_says_them(chat: Watched) -> None:
    """Opened, the line shows a bar a step, the first token's mark, and a table for screen readers."""
    page = chat.page
    with page.expect_response(lambda response: "/_slipstream/requests/" in response.url and response.ok):
        ask(page, "hello")
    page.locator(".timing summary").click()

    assert page.locator(".wf-name").all_inner_texts() == [
        "Admit",
        "Read",
        "Select",
        "Open",
        "First byte",
        "Prompt",
        "Stream",
        "Decode",
    ]
    assert page.locator(".wf-bar").count() == 8
    expect(page.locator(".wf-first")).to_have_count(1)
    rows = page.get_by_role("table", name="Steps of the request").get_by_role("row")
    expect(rows).to_have_count(9)
    expect(rows.nth(1)).to_contain_text("0.02 ms")
    page.locator(".wf").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator(".wf-tip")).to_have_text(re.compile("^Admit: .* The key is checked.$"))
    page.locator(".wf-took").nth(4).hover()
    expect(page.locator(".wf-tip")).to_have_text(re.compile("^First byte: "))


def test_answer_without_a_record_is_measured_here(chat: Watched, scene: Scene) -> None:
    """A server that keeps no record still gets a line, and the page says whose figures they are."""
    page = chat.page
    ask(page, "/unrecorded")
    page.locator(".timing summary").click()

    expect(page.locator(".figures")).to_have_text(re.compile(r"ms to first token9 tokens"))
    expect(page.locator(".wf-none")).to_contain_text("kept no record")


def test_examples_ask_at_once(chat: Watched) -> None:
    """The empty page offers four questions; a click asks one."""
    page = chat.page
    assert page.locator("#examples button").count() == 4
    page.get_by_role("button", name="What is the capital of France?").click()

    expect(page.locator(".answer .foot")).to_be_visible()
    assert questions(page) == ["What is the capital of France?"]
    expect(page.locator("#welcome")).to_be_hidden()


def test_keys_of_the_composer(chat: Watched) -> None:
    """Shift+Enter breaks the line, the field grows, Enter sends all of it; an empty question is not sent."""
    page = chat.page
    field = page.locator("#question")
    expect(field).to_be_focused()
    page.keyboard.press("Enter")
    low = field.evaluate("node => node.offsetHeight")
    page.keyboard.type("one")
    for _ in range(3):
        page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    assert field.evaluate("node => node.offsetHeight") > 2 * low
    page.keyboard.press("Enter")
    page.locator(".answer .foot").wait_for()

    assert questions(page) == ["one\n\n\ntwo"]
    assert field.input_value() == ""
    expect(field).to_be_focused()
    assert low == field.evaluate("node => node.offsetHeight")


@pytest.mark.parametrize("way", ["Escape", "button"])
def test_stop_ends_the_request_itself(chat: Watched, scene: Scene, way: str) -> None:
    """Stopping keeps what has come, and the server sees its client leave."""
    page = chat.page
    ask(page, "/endless", wait=False)
    page.locator(".prose p").nth(1).wait_for()
    if way == "Escape":
        page.keyboard.press("Escape")
    else:
        page.get_by_role("button", name="Stop").click()

    expect(page.locator(".note")).to_have_text("Stopped.")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    for _ in range(100):
        if scene.left:
            break
        page.wait_for_timeout(20)
    assert len(scene.left) == 1
    ask(page, "go on")
    assert answers(page)[-1] == PARIS


def test_stop_before_the_first_token(chat: Watched, scene: Scene) -> None:
    """A question that hangs can be left as well."""
    page = chat.page
    ask(page, "/hang", wait=False)
    expect(page.locator(".waiting")).to_be_visible()
    expect(page.locator(".answer")).to_have_attribute("aria-busy", "true")
    page.keyboard.press("Escape")

    expect(page.locator(".note")).to_have_text("Stopped before the first word.")
    expect(page.locator(".waiting")).to_have_count(0)


def test_arrow_up_edits_the_last_question(chat: Watched, scene: Scene) -> None:
    """The last question comes back into the empty field; sending replaces it and its answer."""
    page = chat.page
    ask(page, "first")
    ask(page, "second")
    page.keyboard.press("ArrowUp")
    assert page.locator("#question").input_value() == "second"
    page.keyboard.press("Escape")
    assert page.locator("#question").input_value() == ""
    page.keyboard.press("ArrowUp")
    page.locator("#question").press_sequentially(" one")
    page.keyboard.press("Enter")
    page.locator(".answer:last-child .foot").wait_for()

    assert questions(page) == ["first", "second one"]
    assert [m["content"] for m in scene.seen[-1]["messages"]] == [
        "first",
        "The capital of France is **Paris**.",
        "second one",
    ]


def test_answer_again_replaces_the_answer(chat: Watched, scene: Scene) -> None:
    """Regenerating asks the same question; only the last answer offers it."""
    page = chat.page
    ask(page, "first")
    ask(page, "second")
    expect(page.get_by_role("button", name="Answer again")).to_have_count(1)
    page.get_by_role("button", name="Answer again").click()
    page.locator(".answer:last-child .foot").wait_for()

    assert len(scene.seen) == 3
    assert scene.seen[1] == scene.seen[2]
    assert len(answers(page)) == 2


def test_reload_keeps_the_conversation(chat: Watched) -> None:
    """Questions, answers and timings survive a reload; a new chat forgets them."""
    page = chat.page
    with page.expect_response(lambda response: "/_slipstream/requests/" in response.url and response.ok):
        ask(page, "first")
    page.locator(".timing summary").click()
    page.locator(".wf-grid").wait_for()  # the server's figures have taken the place of the browser's
    before = page.locator(".figures").inner_text()
    page.reload()
    page.locator(".answer .foot").wait_for()

    assert questions(page) == ["first"]
    assert answers(page) == [PARIS]
    assert before == page.locator(".figures").inner_text()
    page.get_by_role("button", name="New chat").click()
    page.reload()
    expect(page.locator("#welcome")).to_be_visible()
    assert questions(page) == []


def test_reload_in_the_middle_keeps_what_came(chat: Watched) -> None:
    """An answer cut by a reload stands as stopped."""
    page = chat.page
    ask(page, "/endless", wait=False)
    page.locator(".prose p").nth(2).wait_for()
    page.reload()

    expect(page.locator(".note")).to_have_text("Stopped.")
    assert answers(page)[0].startswith("Line 0 of a long answer.")


def test_conversation_in_storage_is_bounded(chat: Watched) -> None:
    """The oldest turns go first; what is kept begins with a question."""
    kept = chat.page.evaluate("""async () => {
      const { Conversation } = await import("/assets/conversation.js");
      let stored = "";
      const storage = { getItem: () => null, setItem: (_, text) => { stored = text; } };
      const talk = new Conversation(storage);
      for (let turn = 0; turn < 150; turn += 1) {
        talk.ask(`${turn} `.repeat(4000), "m").text = "a".repeat(4000);
      }
      dispatchEvent(new Event("pagehide"));
      const { messages } = JSON.parse(stored);
      const last = messages.at(-2).text.slice(0, 4);
      return { size: stored.length, first: messages[0].role, last, count: messages.length };
    }""")

    assert kept["size"] <= 1_500_000
    assert (kept["first"], kept["last"]) == ("user", "149 ")
    assert 50 < kept["count"] <= 200


def test_foreign_storage_does_not_break_the_page(chat: Watched) -> None:
    """What is not ours in the storage is ignored."""
    turn = '{"role": "user", "text": "x"}, {"role": "assistant", "text": "y", "state": "done", "timing": %s}'
    for text in (
        '{"messages": [1, null, {"role": "user"}, {"role": "system", "text": "x"}]}',
        '{"messages": [{"role": "assistant", "text": "y", "state": "done"}, {"role": "user", "text": "x"}]}',
        "{",
        '{"messages": "x"}',
        "[]",
        '{"messages": [], "draft": 5, "model": [], "showsSteps": "yes"}',
    ):
        page = chat.open_with(text)
        expect(page.locator("#welcome")).to_be_visible()
        expect(page.locator("#picker")).to_be_visible()
    for timing in ("5", "{}", '{"steps": 7}'):
        page = chat.open_with('{"messages": [' + turn % timing + '], "showsSteps": true}')
        expect(page.locator(".answer .prose")).to_have_text("y")
        expect(page.locator("#picker")).to_be_visible()


def test_error_is_shown_with_its_hint_and_can_be_retried(chat: Watched, scene: Scene) -> None:
    """The server's own words, its hint, and a button that asks again."""
    page = chat.page
    scene.failures = 1
    ask(page, "hello")
    expect(page.locator(".failure-title")).to_have_text("The model gpt-oss-120b did not answer within 60 s.")
    expect(page.locator(".failure")).to_contain_text("It may be loading. Try again in a minute.")
    page.get_by_role("button", name="Try again").click()

    expect(page.locator(".failure")).to_have_count(0)
    expect(page.locator(".answer .prose")).to_have_text(PARIS)
    assert questions(page) == ["hello"]


@pytest.mark.parametrize(
    ("scene_name", "words"),
    [
        ("/break", "did not answer within 60 s"),
        ("/cut", "broke off before it was finished"),
    ],
)
def test_broken_answer_keeps_what_came(chat: Watched, scene_name: str, words: str) -> None:
    """An error in the middle, or a stream that just ends, is said; the text stays."""
    page = chat.page
    ask(page, scene_name)

    expect(page.locator(".failure")).to_contain_text(words)
    assert answers(page) == ["The capital of France is"]


def test_other_ends_are_said(chat: Watched) -> None:
    """A length limit and an empty answer do not look like a finished one."""
    page = chat.page
    ask(page, "/long-end")
    expect(page.locator(".note").last).to_have_text("The answer reached its length limit.")
    ask(page, "/nothing")
    expect(page.locator(".note").last).to_have_text("The model answered with nothing.")


def test_question_waits_for_the_model_that_loads(browser: Browser, page_server: str, scene: Scene) -> None:
    """While the model loads the composer says so; a question waits and goes out by itself, or is taken back."""
    scene.loading = ["smollm2-135m-instruct"]
    with watched_page(browser, page_server) as watched:
        page = watched.open()
        expect(page.locator("#hint")).to_have_text("Loading smollm2-135m-instruct …")
        ask(page, "early", wait=False)
        expect(page.locator("#hint")).to_contain_text("Sent as soon as smollm2-135m-instruct is loaded")
        page.keyboard.press("Escape")
        assert page.locator("#question").input_value() == "early"
        page.keyboard.press("Enter")
        assert scene.seen == []
        scene.loading = []

        expect(page.locator(".answer .prose")).to_have_text(PARIS)
        assert questions(page) == ["early"]
        watched.assert_clean()


def test_another_model_that_loads_does_not_hold_up_the_chosen_one(
    browser: Browser, page_server: str, scene: Scene
) -> None:
    """Only the chosen model matters."""
    scene.loading = ["all-minilm-l6-v2"]
    with watched_page(browser, page_server) as watched:
        page = watched.open()
        page.locator("#picker").wait_for()
        expect(page.locator("#hint")).to_contain_text("Enter sends")
        ask(page, "hello")

        assert answers(page) == [PARIS]


def test_server_gone_is_said_and_survived(chat: Watched) -> None:
    """The page says that nobody answers, keeps the conversation, and notices when the server is back."""
    page = chat.page
    ask(page, "first")

    def refuse(route: Route) -> None:
        route.abort("connectionrefused")

    page.route("**/*", refuse)
    ask(page, "second")
    expect(page.locator(".failure")).to_contain_text("The server does not answer.")
    expect(page.locator(".notice")).to_contain_text("Your conversation is safe here")
    page.unroute("**/*", refuse)

    expect(page.locator(".notice")).to_have_count(0)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".answer:last-child .prose")).to_have_text(PARIS)


def test_key_is_asked_for_and_kept_in_memory_only(browser: Browser, page_server: str, scene: Scene) -> None:
    """A 401 opens a panel; a wrong key is said to be wrong, the right one goes on; nothing is stored."""
    scene.key = "sk-right"
    with watched_page(browser, page_server) as watched:
        page = watched.open()
        expect(page.get_by_role("heading", name="This server asks for a key.")).to_be_visible()
        expect(page.locator(".notice-key")).to_contain_text("slipstream open lets a browser in")
        page.locator("#key").fill("sk-wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="That key was not accepted.")).to_be_visible()
        page.locator("#key").fill("sk-right")
        page.get_by_role("button", name="Use key").click()
        expect(page.locator(".notice")).to_have_count(0)
        ask(page, "hello")

        assert answers(page) == [PARIS]
        stored = page.evaluate(
            "() => JSON.stringify([{...sessionStorage}, {...localStorage}, document.cookie])"
        )
        assert "sk-" not in stored
        watched.assert_clean()


def test_key_asked_for_in_the_middle_answers_the_waiting_question(chat: Watched, scene: Scene) -> None:
    """A key that becomes needed: the question that met the 401 is asked again with it."""
    page = chat.page
    scene.key = "sk-late"
    ask(page, "hello")
    page.locator("#key").fill("sk-late")
    page.keyboard.press("Enter")

    expect(page.locator(".answer .prose")).to_have_text(PARIS)
    assert questions(page) == ["hello"]


def test_model_picker(chat: Watched, scene: Scene) -> None:
    """The default model is chosen, embedders are not offered, the choice is sent and survives a reload."""
    page = chat.page
    assert page.locator("#model option").all_inner_texts() == ["smollm2-135m-instruct", "gpt-oss-120b"]
    ask(page, "one")
    page.locator("#model").select_option("gpt-oss-120b")
    ask(page, "two")
    assert [body["model"] for body in scene.seen] == ["smollm2-135m-instruct", "gpt-oss-120b"]
    assert all(body["stream"] and body["stream_options"] == {"include_usage": True} for body in scene.seen)
    page.reload()

    expect(page.locator("#model")).to_have_value("gpt-oss-120b")


def test_new_text_is_followed_only_at_the_end(chat: Watched, scene: Scene) -> None:
    """At the end the page follows; scrolled up it stays, and a button leads back."""
    page = chat.page
    scroller = page.locator("#scroller")
    ask(page, "/endless", wait=False)
    page.locator(".prose p").nth(40).wait_for()
    assert scroller.evaluate(AWAY) < 60
    expect(page.locator("#jump")).to_be_hidden()
    scroller.hover()
    page.mouse.wheel(0, -500)
    expect(page.locator("#jump")).to_be_visible()
    stays = scroller.evaluate("node => node.scrollTop")
    page.locator(".prose p").nth(70).wait_for()
    assert stays == scroller.evaluate("node => node.scrollTop")
    page.get_by_role("button", name="Jump to latest").click()
    page.locator(".prose p").nth(90).wait_for()

    assert scroller.evaluate(AWAY) < 60
    page.keyboard.press("Escape")


def test_copying(chat: Watched) -> None:
    """Code is copied as it is, an answer as its Markdown; the button says that it did."""
    page = chat.page
    chat.context.grant_permissions(["clipboard-read", "clipboard-write"])
    ask(page, "a palindrome, please")
    read = "() => navigator.clipboard.readText()"
    page.get_by_role("button", name="Copy code").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate(read).startswith("def is_palindrome(word: str)")
    page.get_by_role("button", name="Copy answer").click()
    page.wait_for_function("async () => (await navigator.clipboard.readText()).startsWith('Here is')")

    assert "```python\ndef" in page.evaluate(read)


def test_keyboard_alone_is_enough(chat: Watched) -> None:
    """Every control is reached with Tab and shows its focus; the timing opens with Enter."""
    page = chat.page
    ask(page, "hello")
    page.locator("body").evaluate(
        "node => { node.tabIndex = -1; node.focus(); node.removeAttribute('tabindex') }"
    )
    names = []
    for _ in range(16):
        page.keyboard.press("Tab")
        names.append(
            page.evaluate("""() => {
          const node = document.activeElement;
          if (node === document.body) return "the browser";
          const { outlineStyle, boxShadow } = getComputedStyle(node.closest(".composer") ?? node);
          if (outlineStyle === "none" && boxShadow === "none") return `no focus on ${node.outerHTML.slice(0, 80)}`;
          return node.getAttribute("aria-label") ?? node.id ?? node.localName;
        }""")
        )
        if names[-1].startswith("Timing"):
            page.keyboard.press("Enter")
            expect(page.locator(".wf-panel")).to_be_visible()

    wanted = [
        "Model",
        "Colours: as the system",
        "New chat",
        "Edit question (arrow up)",
        "Copy answer",
        "Answer again",
        "question",
    ]
    assert wanted == [name for name in names if name in wanted][: len(wanted)]
    assert not [name for name in names if name.startswith("no focus")]
    assert any(name.startswith("Timing: ") for name in names)


def test_screen_readers_hear_the_answer(chat: Watched) -> None:
    """One polite region says that the answer comes, and then the whole of it, once."""
    page = chat.page
    ask(page, "hello")

    expect(page.locator("#spoken")).to_have_text("The capital of France is **Paris**.")
    expect(page.locator("#spoken")).to_have_attribute("aria-live", "polite")
    assert page.locator(".answer").get_attribute("aria-busy") is None


def test_hostile_texts_in_every_place(
    browser: Browser, page_server: str, backend: Backend, scene: Scene
) -> None:
    """Answers, questions, model names, error words and record fields stay text, also after a reload."""
    from dashboard import payloads

    scene.delay = scene.first = 0.0
    scene.models = [
        {"id": payload, "slipstream": {"state": payload, "default": index == 3}}
        for index, payload in enumerate(payloads.ALL)
    ]
    text = "\n\n".join(payloads.ALL)
    scene.answers = {text: text}
    with watched_page(browser, page_server) as watched:
        page = watched.open()
        page.locator("#picker").wait_for()
        assert len(payloads.ALL) == page.locator("#model option").count()
        ask(page, text)
        hostile_record(backend, text)
        ask(page, "/unrecorded")
        for fault in ("/refuse", "/break"):
            scene.error = {"message": text, "hint": text, "code": text, "type": text}
            ask(page, fault)
            expect(page.locator(".failure").last).to_contain_text("constructor.constructor")
        page.reload()
        page.locator(".answer .foot").nth(3).wait_for()
        for line in page.locator(".timing summary").all()[:3]:
            line.click()
        found = page.evaluate("""() => {
          const all = [...document.querySelectorAll("*")];
          const strange = "iframe, img, object, embed, base, form[action], link:not([href^='/assets/']), style";
          return {
          scripts: document.querySelectorAll("script").length,
          strange: document.querySelectorAll(strange).length,
          handlers: all.filter((node) => node.getAttributeNames().some((name) => name.startsWith("on"))).length,
          links: [...document.links].filter((node) => !/^(https?|mailto):/.test(node.protocol)).length,
        };
        }""")

        assert found == {"scripts": 2, "strange": 0, "handlers": 0, "links": 0}
        watched.assert_clean()


def hostile_record(backend: Backend, text: str) -> None:
    """From here on a request's record is hostile in every field."""

    def keep(name: str, *_: Any) -> None:
        backend.scene.records[name] = {
            "_ready": 0.0,
            "id": text,
            "model": text,
            "upstream": text,
            "outcome": text,
            "finish_reason": text,
            "duration_ns": "1",
            "first_token_ns": -5,
            "output_tokens": {},
            "prompt_tokens": 1e300,
            "steps": [
                [text, 0, 10**6],
                {"name": "x", "start_ns": None},
                None,
                7,
                ["__proto__", 5, 10**7],
                [text, -1, 1],
            ],
        }

    backend.keep = keep  # type: ignore[method-assign]
