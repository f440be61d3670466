"""Which URLs events may be sent to."""

import pytest

from track_server.errors import DestinationNotAllowed, InvalidField
from track_server.webhooks.targets import Targets

HOSTS = ["hooks.example.com", "api.example.com:8443", "*.example.net", "http://intranet.example", "münchen.example"]


def targets(*hosts: str, allow_private: bool = False) -> Targets:
    return Targets(hosts or HOSTS, allow_private=allow_private)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/a?b=c",
        "https://HOOKS.example.com/",
        "https://hooks.example.com.",
        "https://hooks.example.com:8443/",
        "https://api.example.com:8443/",
        "https://a.example.net",
        "https://a.b.example.net/",
        f"https://{'a' * 63}.example.net/",
        "https://a_b.example.net/",
        "http://intranet.example:8080/x",
        "https://intranet.example/x",
        "https://münchen.example/",
        "https://xn--mnchen-3ya.example/",
    ],
)
def test_what_the_list_names_is_taken(url: str) -> None:
    assert targets().checked(url).scheme in ("http", "https")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/",
        "https://evil.example/hooks.example.com",
        "https://hooks.example.com.evil.example/",
        "https://evilhooks.example.com/",
        "https://api.example.com/",
        "https://example.net/",
        "https://evilexample.net/",
        "http://hooks.example.com/",
        "http://a.example.net/",
        "https://127.0.0.1/",
    ],
)
def test_what_it_does_not_name_is_refused(url: str) -> None:
    with pytest.raises(DestinationNotAllowed) as refused:
        targets().checked(url)
    assert refused.value.field == "url"


@pytest.mark.parametrize(
    "url",
    [
        "hooks.example.com",
        "//hooks.example.com/",
        "ftp://hooks.example.com/",
        "unix:///var/run/docker.sock",
        "http+unix://hooks.example.com/",
        "file:///etc/passwd",
        "https:///",
        "https://",
        "https://user@hooks.example.com/",
        "https://user:secret@hooks.example.com/",
        "https://@hooks.example.com/",
        "https://evil.example@hooks.example.com/",
        "https://hooks.example.com@evil.example/",
        "https://hooks.example.com:0/",
        "https://hooks.example.com:99999/",
        "https://hooks.example.com:x/",
        "https://hooks.example.com/ x",
        "https://hooks.example.com/\r\nHost: evil",
        "https://hooks.example.com\\@evil.example/",
        "https://hooks.example.com/#x",
        "https://hooks%2eexample.com/",
        "https://[::1%25eth0]/",
        "https://[::1/",
        "https://.example.net/",
        "https://..example.net/",
        "https://a..example.net/",
        f"https://{'a' * 64}.example.net/",
        f"https://{'a.' * 130}example.net/",
    ],
)
def test_what_is_no_plain_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidField):
        targets().checked(url)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "10.1.2.3", "[::ffff:127.0.0.1]"])
def test_a_private_address_that_the_list_names_is_taken_only_where_private_ones_are(host: str) -> None:
    assert targets(host, allow_private=True).checked(f"https://{host}/")
    with pytest.raises(DestinationNotAllowed):
        targets(host).checked(f"https://{host}/")


def test_an_empty_list_allows_nothing() -> None:
    with pytest.raises(DestinationNotAllowed):
        Targets([], allow_private=True).checked("https://hooks.example.com/")
