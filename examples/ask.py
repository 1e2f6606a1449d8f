"""Ask the assistant from a script; the running server answers, or the embedded model in this process."""

from slipstream import generate_response

answer = generate_response("What is the capital of France?")
print(answer)
print(f"{answer.usage.output} tokens, first one after {answer.timings.ttft_ms:.0f} ms, by {answer.model}")
