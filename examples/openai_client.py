"""The official OpenAI client against a running `slipstream serve`; only `base_url` is changed."""

import os

import openai

URL = os.environ.get("SLIPSTREAM_URL", "http://127.0.0.1:8080/v1")

with openai.OpenAI(base_url=URL, api_key="none") as client:
    stream = client.chat.completions.create(
        model="smollm2-135m-instruct",
        messages=[{"role": "user", "content": "What is the capital of France?"}],
        stream=True,
    )
    for chunk in stream:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
