"""The chat page when something fails: what is said, what is offered, and what the model is told afterwards."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from dashboard.backend import Scene
from e2e.browser import Watched, watched_page

pytestmark = pytest.mark.browser

PARIS = "The capital of France is **Paris**."


def ask(page: Page, text: str) -> None:
    """Write a question, press Enter, wait for the end of the answer."""
    page.locator("#question").fill(text)
    page.locator("#question").press("Enter")
    page.locator(".answer:last-child .foot").wait_for()


def told(scene: Scene) -> list[str]:
    """What the model was told with the latest request."""
    return [message["content"] for message in scene.seen[-1]["messages"]]


def test_failed_question_is_not_sent_with_the_next_one(chat: Watched, scene: Scene) -> None:
    """It stays on the page with its button, and the page says that the model does not know of it."""
    page = chat.page
    ask(page, "first")
    ask(page, "/refuse this")
    expect(page.locator(".left-out")).to_be_hidden()
    ask(page, "third")

    assert told(scene) == ["first", PARIS, "third"]
    assert page.locator(".bubble").all_inner_texts() == ["first", "/refuse this", "third"]
    expect(page.locator(".left-out")).to_have_text("This question is left out of what the model is told.")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()


def test_failed_question_is_tried_again_where_it_stands(chat: Watched, scene: Scene) -> None:
    """Trying again later tells the model what stood before it, and drops nothing that came after it."""
    page = chat.page
    ask(page, "first")
    scene.failures = 1
    ask(page, "second")
    ask(page, "third")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".failure")).to_have_count(0)
    expect(page.locator(".answer .foot")).to_have_count(3)
    assert told(scene) == ["first", PARIS, "second"]
    ask(page, "fourth")

    assert told(scene) == ["first", PARIS, "second", PARIS, "third", PARIS, "fourth"]


def test_stopped_question_without_a_word_is_left_out(chat: Watched, scene: Scene) -> None:
    """Two questions in a row would be no conversation: many models refuse it."""
    page = chat.page
    page.locator("#question").fill("/hang")
    page.keyboard.press("Enter")
    page.locator(".waiting").wait_for()
    page.keyboard.press("Escape")
    expect(page.locator(".note")).to_have_text("Stopped before the first word.")
    ask(page, "next")

    assert told(scene) == ["next"]


def test_answer_that_broke_off_is_told_as_far_as_it_came(chat: Watched, scene: Scene) -> None:
    """A part of an answer belongs to the conversation, the reader has seen it."""
    page = chat.page
    ask(page, "/break")
    ask(page, "next")

    assert told(scene) == ["/break", "The capital of France is", "next"]


@pytest.mark.parametrize("fault", ["/refuse", "/break"])
def test_hint_is_shown_once(chat: Watched, fault: str) -> None:
    """The server's message ends with its hint; the page shows what happened, and below it what to do."""
    page = chat.page
    ask(page, fault)

    expect(page.locator(".failure-title")).to_have_text("The model gpt-oss-120b did not answer within 60 s.")
    assert page.locator(".failure").inner_text().count("Try again in a minute.") == 1
    assert page.locator("#spoken").inner_text().count("Try again in a minute.") == 1


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        ({"message": "It broke."}, ["It broke."]),
        ({"message": "It broke.", "hint": "Mend it."}, ["It broke.", "Mend it."]),
        ({"message": "Mend it.", "hint": "Mend it."}, ["Mend it."]),
        ("It broke.", ["It broke."]),
        ({}, ["The server answered with status 504."]),
    ],
)
def test_errors_of_every_shape_are_said(chat: Watched, scene: Scene, error: object, shown: list[str]) -> None:
    """With and without a hint, repeated or not, in the short shape of other servers too."""
    scene.error = error  # type: ignore[assignment]
    ask(chat.page, "/refuse")

    assert chat.page.locator(".failure p:visible").all_inner_texts() == shown


def test_model_that_does_not_start_is_said(browser: Browser, page_server: str, scene: Scene) -> None:
    """Not "loading" for ever: that it does not start, what to do, and that another one may be chosen."""
    scene.failed = ["smollm2-135m-instruct"]
    with watched_page(browser, page_server) as watched:
        page = watched.open()
        notice = page.get_by_role("alert")
        expect(notice).to_contain_text("The model smollm2-135m-instruct does not start.")
        expect(notice).to_contain_text("Choose another model above")
        expect(notice).to_contain_text("slipstream pull")
        expect(page.locator("#hint")).to_have_text("smollm2-135m-instruct does not start")
        page.locator("#model").select_option("gpt-oss-120b")
        expect(notice).to_have_count(0)
        expect(page.locator("#hint")).to_contain_text("Enter sends")
        ask(page, "hello")

        assert [body["model"] for body in scene.seen] == ["gpt-oss-120b"]
        watched.assert_clean()


@pytest.mark.long
def test_question_to_a_model_that_does_not_start_goes_out(
    browser: Browser, page_server: str, scene: Scene
) -> None:
    """The server's own words say why it does not start; when it does at last, the notice goes by itself."""
    scene.failed = ["smollm2-135m-instruct"]
    scene.failures = 1
    with watched_page(browser, page_server) as watched:
        page = watched.open()
        page.get_by_role("alert").wait_for()
        ask(page, "hello")
        expect(page.locator(".failure-title")).to_contain_text("did not answer")
        scene.failed = []

        expect(page.get_by_role("alert")).to_have_count(0)
        page.get_by_role("button", name="Try again").click()
        expect(page.locator(".answer .prose")).to_have_text("The capital of France is Paris.")


def test_waiting_question_comes_back_when_the_model_gives_up(
    browser: Browser, page_server: str, scene: Scene
) -> None:
    """A question that waits for the load is not lost, and not sent to a model that cannot answer."""
    scene.loading = ["smollm2-135m-instruct"]
    with watched_page(browser, page_server) as watched:
        page = watched.open()
        expect(page.locator("#hint")).to_contain_text("Loading")
        page.locator("#question").fill("early")
        page.keyboard.press("Enter")
        expect(page.locator("#hint")).to_contain_text("Sent as soon as")
        scene.failed, scene.loading = scene.loading, []

        expect(page.get_by_role("alert")).to_contain_text("does not start")
        expect(page.locator("#question")).to_be_editable()
        assert page.locator("#question").input_value() == "early"
        assert scene.seen == []


def test_half_written_key_survives_the_polls(browser: Browser, page_server: str, scene: Scene) -> None:
    """While the model loads the page asks again and again; the field in which a key is written stays."""
    scene.key, scene.loading = "sk-right", ["smollm2-135m-instruct"]
    with watched_page(browser, page_server) as watched:
        page = watched.open()
        page.locator("#key").fill("sk-ri")
        with page.expect_response(re.compile("/v1/models")), page.expect_response(re.compile("/readyz")):
            pass
        page.wait_for_timeout(50)

        assert page.locator("#key").input_value() == "sk-ri"


def test_bad_login_link_says_how_to_get_in(browser: Browser, page_server: str, scene: Scene) -> None:
    """The server sends a browser here; the address then no longer says so, a reload begins anew."""
    scene.key = "sk-right"
    with watched_page(browser, page_server) as watched:
        page = watched.open("/#login-failed")
        expect(page.get_by_role("heading", name="That login link is no longer good.")).to_be_visible()
        expect(page.locator(".notice-key")).to_contain_text("A restart ends older links and logins.")
        expect(page.locator(".notice-key")).to_contain_text("slipstream keys create NAME")
        assert page.url == page_server + "/"
        page.reload()
        expect(page.get_by_role("heading", name="This server asks for a key.")).to_be_visible()
        page.locator("#key").fill("sk-right")
        page.keyboard.press("Enter")
        ask(page, "hello")
        watched.assert_clean()
