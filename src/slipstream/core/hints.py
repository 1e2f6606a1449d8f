"""What to do about a failure, by its code: for errors whose place knows nothing better to say.

`core.errors` looks here when an error is made without a hint, so that no client is left without one.
"""

_AGAIN = "Send the request again; the upstream's own log may say why."
_ONE_READING = "Send the request so that it can be read in one way only: RFC 9112 says how."

HINTS: dict[str, str] = {
    # The body of a request.
    "invalid_json": 'Send one JSON object, such as {"messages": [{"role": "user", "content": "Hello"}]}.',
    "invalid_utf8": "Encode the body as UTF-8.",
    "too_deep": "Flatten what is nested in it.",
    "duplicate_field": "Send each field once: two readers might take a different one.",
    "missing_field": "Add it to the body; the API's reference lists what each call needs.",
    "wrong_type": "Send the field as the API's reference has it, or leave it out.",
    "invalid_value": "Send a value that the API's reference allows, or leave the field out.",
    "unsupported_value": "Leave the field out, or ask a model that supports it.",
    "empty_input": "Send at least one text, and no empty one.",
    "text_too_long": "Split it into several texts.",
    "too_many_fields": "Send only the fields that the API knows.",
    "wrong_model": "GET /v1/models lists the models.",
    # The request around it.
    "wrong_method": "The header `Allow` of this answer says what is taken.",
    "wrong_encoding": "Send the body uncompressed, without the header `Content-Encoding`.",
    "invalid_path": "Write the path plainly, as the API's reference has it.",
    "invalid_target": "Ask for a path, such as /v1/chat/completions.",
    "invalid_host": "Send one Host header that names this server.",
    "invalid_header": "Leave out line ends and control characters.",
    "invalid_http": "This port speaks plain HTTP/1.1, neither TLS nor HTTP/2: RFC 9112 has its form.",
    "ambiguous_length": _ONE_READING,
    "http_version": "Send HTTP/1.1.",
    "transfer_coding": "Send `Transfer-Encoding: chunked`, or a Content-Length.",
    "chunk_overhead": "Send the body in larger chunks.",
    "too_slow": "The settings server.header_seconds and server.body_bytes_per_second bound this.",
    "slow_reader": "Read faster; the setting models.backlog_bytes bounds what is kept for one who does not.",
    # The models behind us.
    "model_loading": "Try again in a moment; /readyz says when it is ready.",
    "local_model_broke": "Send the request again.",
    "local_model_error": "Send the request again; the server's log has more.",
    "upstream_broke": _AGAIN,
    "upstream_closed": _AGAIN,
    "upstream_failed": _AGAIN,
    "upstream_malformed": "Check that its `url` leads to an OpenAI-compatible API.",
    "upstream_header_too_large": "Check that its `url` leads to an OpenAI-compatible API.",
    "answer_closed": "Send the request again.",
    "client_closed": "The server is shutting down, or its settings have changed: send the request again.",
}
