"""Where an upstream is: what of its address is told when it is wrong."""

import pytest

from slipstream.core.errors import ConfigurationError
from slipstream.net.client import HttpClient


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://me:secret@host/v1", "'http://***@host/v1'"),
        ("https://host:1/v1?key=secret", "'https://host:1/v1'"),
        ("https://host/v1#secret", "'https://host/v1'"),
        ("http://me:secret@host:x/v1", "'http://***@host:x/v1'"),
        ("ftp://me:secret@host", "'ftp://***@host'"),
        ("me:secret@host", "'***@host'"),
        ("http://host with space/v1", "'http://host with space/v1'"),
    ],
)
def test_wrong_address_is_told_without_its_secrets(url: str, told: str) -> None:
    """It ends up in terminals and logs: neither user nor query stand there."""
    with pytest.raises(ConfigurationError) as caught:
        HttpClient(url)
    assert told in str(caught.value)
    assert "secret" not in str(caught.value)
