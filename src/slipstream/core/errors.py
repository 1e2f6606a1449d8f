"""The errors of Slipstream: one root, one child for each party that must act.

Each carries the HTTP status it is answered with and a hint that says what to do.
Foreign errors are translated in the adapter that meets them and rendered once, in the gateway.
"""

from slipstream.core.hints import HINTS


class SlipstreamError(Exception):
    """Root of every error that Slipstream raises on purpose.

    Args:
        message: what happened, for a person.
        hint: what to do about it; where none is given, the one of `core.hints` for its code.
        code: machine-readable name, shown as `error.code`.
        param: the field of the request that is at fault.
        status: HTTP status, where it differs from the class's own.
        retry_after_seconds: when trying again makes sense.
    """

    status = 500
    kind = "server_error"
    code = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: str = "",
        param: str | None = None,
        status: int = 0,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.hint = hint or HINTS.get(self.code, "")
        self.param = param
        self.status = status or type(self).status
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip() if self.hint else self.message


class BadRequest(SlipstreamError):
    """The request is at fault; sending it again unchanged will fail again."""

    status = 400
    kind = "invalid_request_error"
    code = "bad_request"


class NotAllowed(SlipstreamError):
    """The caller may not do this: no key, a wrong key, or a foreign page."""

    status = 401
    kind = "authentication_error"
    code = "invalid_api_key"


class LimitReached(SlipstreamError):
    """A limit said no; `retry_after_seconds` says when to come back."""

    status = 429
    kind = "rate_limit_error"
    code = "limit_reached"


class UpstreamFailed(SlipstreamError):
    """The model behind us failed; nothing is wrong with the request as far as we know."""

    status = 502
    kind = "upstream_error"
    code = "upstream_failed"


class UpstreamTimeout(UpstreamFailed):
    """The model behind us did not answer in time."""

    status = 504
    code = "upstream_timeout"


class Unavailable(SlipstreamError):
    """A part of ours is not ready yet or is shutting down; trying again will help."""

    status = 503
    kind = "server_error"
    code = "unavailable"


class StoreFailed(SlipstreamError):
    """A store of ours could not be read or written."""

    kind = "server_error"
    code = "store_failed"


class ConfigurationError(SlipstreamError):
    """A setting is wrong or missing; the hint holds the line to write."""

    code = "configuration_error"


class MissingExtra(ConfigurationError):
    """An optional part is not installed; the hint holds the `pip install` line."""

    status = 501
    code = "missing_extra"

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} is not installed.",
            hint=f'Install it with: pip install "slipstream[{extra}]"',
        )
