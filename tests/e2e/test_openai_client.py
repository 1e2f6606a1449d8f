"""The official OpenAI client against a real server with the embedded model: it works unchanged."""

import base64
import contextlib
import struct
import time
from collections.abc import Iterator

import openai
import pytest

from e2e.serving import Serving, serving

pytestmark = pytest.mark.model

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("openai")) as running:
        yield running


@pytest.fixture
def client(server: Serving) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as made:
        yield made


def slots_free(server: Serving) -> None:
    """Wait until nobody is served any more."""
    deadline = time.monotonic() + 30
    while any(worker["in_flight"] for worker in server.json("/_slipstream/status")["workers"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_capital_of_france(client: openai.OpenAI, server: Serving) -> None:
    """A plain call answers with Paris, with usage, and its record holds the way it took."""
    response = client.chat.completions.with_raw_response.create(model="", messages=QUESTION)
    answer = response.parse()
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 1
    assert "admit;dur=" in response.headers["server-timing"]
    record = server.record(response.headers["x-request-id"])
    assert record["outcome"] == "served"
    assert record["output_tokens"] == answer.usage.completion_tokens
    assert record["default_system_prompt"] is True
    assert {"admit", "read", "select", "open", "relay"} <= {step["name"] for step in record["steps"]}


def test_a_stream(client: openai.OpenAI, server: Serving) -> None:
    """Streamed the same; without asking for usage no usage event is seen, and it is recorded all the same."""
    with client.chat.completions.with_streaming_response.create(
        model="smollm2-135m-instruct", messages=QUESTION, stream=True
    ) as response:
        chunks = list(response.parse())
        request_id = response.headers["x-request-id"]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert "Paris" in text
    assert all(chunk.usage is None for chunk in chunks)
    record = server.record(request_id)
    assert record["stream"] is True
    assert record["prompt_tokens"] > 5
    assert record["tokens_estimated"] is False
    assert record["first_token_ns"] <= record["last_token_ns"] <= record["duration_ns"]


def test_a_stream_with_usage(client: openai.OpenAI) -> None:
    """Who asks for the usage event gets it."""
    chunks = list(
        client.chat.completions.create(
            model="", messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].usage is not None
    assert chunks[-1].choices == []


def test_tools_and_json_pass_through(client: openai.OpenAI) -> None:
    """Tools and response formats are taken; the small model obeys a forced JSON schema."""
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model="", messages=QUESTION, max_tokens=60,
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": schema}},
    )  # fmt: skip
    assert (answer.choices[0].message.content or "").lstrip().startswith("{")
    tool = {"type": "function", "function": {"name": "look_up", "parameters": schema}}
    answer = client.chat.completions.create(model="", messages=QUESTION, max_tokens=60, tools=[tool])
    assert answer.choices[0].message.content  # SmolLM2's template knows no tools; it answers all the same


def test_embeddings(client: openai.OpenAI) -> None:
    """Embeddings: the client's default base64 and floats agree, and similar texts lie close."""
    texts = ["How do I reset my password?", "I forgot my password, what now?", "The soup needs salt."]
    response = client.embeddings.create(model="all-minilm-l6-v2", input=texts)
    one, two, three = (row.embedding for row in response.data)
    assert len(one) == 384
    assert dot(one, two) > dot(one, three) + 0.2
    packed = client.embeddings.create(model="all-minilm-l6-v2", input=texts[0], encoding_format="base64")
    raw = base64.b64decode(str(packed.data[0].embedding))
    assert struct.unpack(f"<{len(raw) // 4}f", raw) == pytest.approx(one, abs=1e-4)


def dot(one: list[float], two: list[float]) -> float:
    return sum(a * b for a, b in zip(one, two, strict=True))


def test_error_types(client: openai.OpenAI) -> None:
    """The client raises the classes it has for our statuses, with our hint in the message."""
    with pytest.raises(openai.NotFoundError, match="Known: smollm2-135m-instruct"):
        client.chat.completions.create(model="gpt-9", messages=QUESTION)
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.chat.completions.create(model="", messages=QUESTION, temperature=99)
    with pytest.raises(openai.BadRequestError, match="messages"):
        client.chat.completions.create(model="", messages="hello")  # type: ignore[call-overload]
    with pytest.raises(openai.NotFoundError):
        client.images.generate(model="x", prompt="a cat")


@pytest.mark.parametrize("stream", [True, False])
def test_leaving_frees_the_slot(client: openai.OpenAI, server: Serving, stream: bool) -> None:
    """A client that leaves is recorded as aborted, and whoever comes next is served."""
    endless = [{"role": "user", "content": "Count from one to ten thousand, in words."}]
    with contextlib.suppress(openai.APITimeoutError):
        answer = client.with_options(timeout=1.0).chat.completions.create(
            model="", messages=endless, stream=stream, max_tokens=1000
        )
        if stream:
            for index, _ in enumerate(answer):
                if index > 3:
                    answer.response.close()
                    break
    slots_free(server)
    assert "Paris" in (
        client.chat.completions.create(model="", messages=QUESTION).choices[0].message.content or ""
    )


def test_killed_model(client: openai.OpenAI, server: Serving) -> None:
    """kill -9 of the model under a stream: a typed error ends it, and the next request, sent at once, is served."""
    (child,) = [each for each in server.processes() if "local_child" in " ".join(each.cmdline())]
    endless = client.chat.completions.create(
        model="", messages=QUESTION, stream=True, extra_body={"logit_bias": {"2": -100}}
    )
    next(endless)
    child.kill()
    with pytest.raises(openai.APIError) as caught:
        list(endless)
    assert caught.value.code == "local_model_crashed"
    assert "send the request once more" in str(caught.value)
    response = client.chat.completions.with_raw_response.create(model="", messages=QUESTION)
    assert "Paris" in (response.parse().choices[0].message.content or "")
    assert server.record(response.headers["x-request-id"])["attempts"] <= 2


def test_completions(client: openai.OpenAI) -> None:
    """The older completions API is served too."""
    answer = client.completions.create(model="", prompt="The capital of France is", max_tokens=4)
    assert "Paris" in answer.choices[0].text


def test_models(client: openai.OpenAI) -> None:
    """The list of models names the default one."""
    assert "smollm2-135m-instruct" in [model.id for model in client.models.list().data]
