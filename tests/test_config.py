"""Settings from the environment and flags, and sentences about wrong ones."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from track_server.config import (
    Credentials,
    Listening,
    Settings,
    SettingsError,
    environment_name,
    is_loopback,
    split_address,
)

NEEDED = {"LIVEKIT_URL": "ws://127.0.0.1:7880", "LIVEKIT_API_KEY": "key", "LIVEKIT_API_SECRET": "hush-hush"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nothing but what every server needs."""
    for name in Settings.model_fields:
        monkeypatch.delenv(environment_name(name), raising=False)
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def sentences(**overrides: object) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        Settings.load(overrides)
    return refused.value.sentences


def test_the_defaults_are_safe() -> None:
    settings = Settings.load()
    assert settings.listen == "127.0.0.1:50051"
    assert settings.auth_mode == "token"
    assert (settings.media_dir, settings.media_url_hosts) == (None, frozenset())
    assert (settings.metrics_listen, settings.livekit_debug_url) == ("", "")


def test_what_has_no_default_must_be_set_and_each_is_named_with_what_it_is(environment: pytest.MonkeyPatch) -> None:
    for name in NEEDED:
        environment.delenv(name)
    found = sentences()
    assert [sentence.split()[0] for sentence in found] == ["LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "LIVEKIT_URL"]
    assert all("is not set. Set it to: " in sentence for sentence in found)


def test_an_empty_variable_counts_as_not_set(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TRACK_MEDIA_WORKERS", "")
    environment.setenv("LIVEKIT_API_KEY", "")
    assert sentences()[0].startswith("LIVEKIT_API_KEY is not set")


def test_flags_override_the_environment(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TRACK_LISTEN", "127.0.0.1:1")
    environment.setenv("TRACK_DRAIN_SECONDS", "5")
    settings = Settings.load({"listen": "127.0.0.1:2", "livekit_url": "https://other", "drain_seconds": None})
    assert (settings.listen, settings.livekit_url, settings.drain_seconds) == ("127.0.0.1:2", "https://other", 5)


@pytest.mark.parametrize(
    ("given_url", "http", "websocket"),
    [
        ("ws://host:7880", "http://host:7880", "ws://host:7880"),
        ("wss://host/", "https://host", "wss://host"),
        ("http://host:7880/path/", "http://host:7880/path", "ws://host:7880/path"),
        ("https://[::1]:7880", "https://[::1]:7880", "wss://[::1]:7880"),
    ],
)
def test_livekits_address_is_taken_in_all_its_forms(given_url: str, http: str, websocket: str) -> None:
    settings = Settings.load({"livekit_url": given_url})
    assert (settings.livekit_http_url, settings.livekit_ws_url) == (http, websocket)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("livekit_url", "host:7880", "LIVEKIT_URL must be an address that begins with http"),
        ("livekit_url", "ftp://host", "LIVEKIT_URL must be an address"),
        ("livekit_url", "ws://host:port", "LIVEKIT_URL must be an address"),
        ("livekit_url", "ws://", "LIVEKIT_URL must be an address"),
        ("listen", "50051", "TRACK_LISTEN must be host:port"),
        ("listen", "host:70000", "TRACK_LISTEN must be host:port"),
        ("listen", "::1:5", "TRACK_LISTEN must be host:port"),
        ("media_listen", "", "TRACK_MEDIA_LISTEN must be host:port"),
        ("media_address", "host", "TRACK_MEDIA_ADDRESS must be host:port"),
        ("metrics_listen", ":9090", "TRACK_METRICS_LISTEN must be host:port"),
        ("auth_mode", "none", "TRACK_AUTH_MODE must be 'token', 'service' or 'off'"),
        ("media_dir", "/no/such/folder", "TRACK_MEDIA_DIR must be a folder that exists"),
        ("media_url_hosts", "https://host", "TRACK_MEDIA_URL_HOSTS must be host names"),
        ("livekit_debug_url", "ws://host", "TRACK_LIVEKIT_DEBUG_URL must be an address that begins with http"),
        ("media_workers", "17", "TRACK_MEDIA_WORKERS must be at most 16"),
        ("media_workers", "-1", "TRACK_MEDIA_WORKERS must be at least 0"),
        ("media_workers", "two", "TRACK_MEDIA_WORKERS must be a whole number"),
        ("worker_max_sessions", "0", "TRACK_WORKER_MAX_SESSIONS must be at least 1"),
        ("log_level", "loud", "TRACK_LOG_LEVEL must be 'debug'"),
        ("log_format", "xml", "TRACK_LOG_FORMAT must be 'json' or 'console'"),
        ("drain_seconds", "soon", "TRACK_DRAIN_SECONDS must be a number"),
        ("transport_timeout_seconds", "0", "TRACK_TRANSPORT_TIMEOUT_SECONDS must be more than 0"),
        ("webhook_hosts", "hooks.example,https://", "TRACK_WEBHOOK_HOSTS must be hosts"),
        ("webhook_hosts", "a/b", "TRACK_WEBHOOK_HOSTS must be hosts"),
        ("webhook_hosts", "*", "TRACK_WEBHOOK_HOSTS must be hosts"),
        ("webhook_hosts", "a:99999", "TRACK_WEBHOOK_HOSTS must be hosts"),
        ("webhook_hosts", "ü" * 80, "TRACK_WEBHOOK_HOSTS must be hosts"),
    ],
)
def test_a_wrong_setting_is_named_with_what_it_must_be(field: str, value: str, says: str) -> None:
    (sentence,) = sentences(**{field: value})
    assert sentence.startswith(says)
    assert sentence.endswith(".")


def test_several_wrong_settings_are_all_told_at_once() -> None:
    assert len(sentences(media_workers="x", auth_mode="y", listen="z")) == 3


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.1.2.3:5", "[::1]:5", "localhost:5"])
def test_without_authentication_loopback_is_served(listen: str) -> None:
    assert Settings.load({"auth_mode": "off", "listen": listen}).listen == listen


@pytest.mark.parametrize("listen", ["0.0.0.0:5", "[::]:5", "10.0.0.1:5", "example.org:5", "localhost.example.org:5"])
def test_without_authentication_nothing_but_loopback_is_served(listen: str) -> None:
    (sentence,) = sentences(auth_mode="off", listen=listen)
    assert "TRACK_LISTEN must be a loopback address" in sentence


def test_the_secret_shows_in_no_text(environment: pytest.MonkeyPatch) -> None:
    settings = Settings.load()
    assert "hush" not in f"{settings!r} {settings}"
    assert settings.livekit_api_secret.get_secret_value() == "hush-hush"
    environment.setenv("TRACK_LISTEN", "bad")
    assert "hush" not in "".join(sentences())


def test_lists_and_paths_are_read_as_such(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TRACK_MEDIA_URL_HOSTS", " a.example.org, B.example.org ,")
    environment.setenv("TRACK_MEDIA_DIR", str(tmp_path))
    settings = Settings.load()
    assert settings.media_url_hosts == {"a.example.org", "b.example.org"}
    assert settings.media_dir == tmp_path.resolve()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.load().listen = "127.0.0.1:1"


def test_parts_can_be_read_alone(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("LIVEKIT_URL")
    assert Credentials.load().livekit_api_key == "key"
    environment.delenv("LIVEKIT_API_KEY")
    assert Listening.load().listen == "127.0.0.1:50051"


def test_every_setting_says_what_it_is() -> None:
    for name, field in Settings.model_fields.items():
        assert (field.description or "").endswith("."), name
        assert environment_name(name).startswith(("TRACK_", "LIVEKIT_"))


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        host, port = split_address(text)
    except ValueError:
        return
    assert host
    assert 0 <= port <= 65535
    is_loopback(host)


def test_the_readme_lists_every_setting_with_its_default() -> None:
    rows = (Path(__file__).resolve().parents[1] / "README.md").read_text().splitlines()
    for name, field in Settings.model_fields.items():
        needed = environment_name(name) in NEEDED
        shown = isinstance(field.default, str | int | float | Path) and field.default != ""
        default = "required" if needed else f"`{field.default}`" if shown else ""
        assert f"| `{environment_name(name)}` | {default} | {field.description} |" in rows, name
