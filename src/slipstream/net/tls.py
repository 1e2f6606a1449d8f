"""The TLS context of upstream connections: certificates are verified, always."""

import ssl

from slipstream.core.errors import ConfigurationError


def client_context(ca_file: str = "") -> ssl.SSLContext:
    """A context that trusts the system's authorities, or only those in the PEM file `ca_file`.

    TLS 1.2 or newer, host names checked. Reads files: call it off the event loop.
    Raises `ConfigurationError` when `ca_file` cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"The certificate authority file {ca_file!r} cannot be used: {error}.",
            hint="`ca_file` names a PEM file with one or more certificates.",
        ) from None
    context.set_alpn_protocols(["http/1.1"])
    return context
