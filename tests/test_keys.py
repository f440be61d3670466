"""API keys of the environment and of a file that changes."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.chained_server import until
from track_server.config import Credentials, SettingsError
from track_server.keys import ApiKey, KeyRing, parse_keys

OWN = ApiKey("APIown", "own-secret")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(tmp_path / "keys.yaml", "APInext: next-secret\n")


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_the_form_is_that_of_livekits_key_file() -> None:
    text = "# ours\n\nAPIa: secret-a\n  APIb:   secret-b   # until June\n'APIc': \"se:cret#c\"\n---\n"
    assert parse_keys(text) == {"APIa": "secret-a", "APIb": "secret-b", "APIc": "se:cret#c"}
    assert list(parse_keys("b: 1\na: 2")) == ["b", "a"]
    assert parse_keys("\n# none\n") == {}


@pytest.mark.parametrize(
    "text",
    ["APIa", "APIa:secret", "APIa:", ": secret", "APIa: two words", "- APIa: s", "a b: s", "APIa: s\nAPIa: t", "k: ''"],
)
def test_a_line_of_another_form_is_named_and_not_shown(text: str) -> None:
    with pytest.raises(ValueError, match=r"^line \d of the file") as refused:
        parse_keys(text)
    assert "API" not in str(refused.value).replace("`key", "")


def test_without_a_file_there_is_one_key() -> None:
    keys = KeyRing(OWN)
    assert keys.find("APIown") == ApiKey("APIown", "own-secret")
    assert keys.find("APInext") is None
    assert keys.acting == OWN
    assert KeyRing(ApiKey("", "")).find("") is None


def test_a_secret_shows_in_no_text() -> None:
    assert "own-secret" not in repr(OWN)


async def test_the_files_keys_count_beside_the_environments(path: Path) -> None:
    async with KeyRing(OWN, path) as keys:
        assert (keys.find("APIown"), keys.find("APInext")) == (OWN, ApiKey("APInext", "next-secret"))
        assert keys.acting == OWN


async def test_the_file_knows_better_than_the_environment(path: Path) -> None:
    written(path, "APInext: n\nAPIown: newer-secret\n")
    async with KeyRing(OWN, path) as keys:
        assert keys.acting == ApiKey("APIown", "newer-secret")


async def test_without_a_key_in_the_environment_the_files_first_acts(path: Path) -> None:
    written(path, "APIb: b\nAPIa: a\n")
    async with KeyRing(ApiKey("", ""), path) as keys:
        assert keys.acting == ApiKey("APIb", "b")
    async with KeyRing(ApiKey("APIa", ""), path) as keys:
        assert keys.acting == ApiKey("APIa", "a")


async def test_a_key_is_rotated_by_two_changes_of_the_file(path: Path) -> None:
    written(path, "APIown: own-secret\n")
    async with KeyRing(OWN, path) as keys:
        changes: list[ApiKey] = []
        keys.follow(lambda: changes.append(keys.acting))
        written(path, "APIown: own-secret\nAPInext: next-secret\n")
        await until(lambda: keys.find("APInext"))
        assert keys.acting == OWN
        # Gone for good, although the environment still has it.
        written(path, "APInext: next-secret\n")
        await until(lambda: keys.find("APIown") is None)
        assert not keys.good(OWN)
        assert keys.acting == ApiKey("APInext", "next-secret")
        assert changes == [OWN, keys.acting]
        written(path, "# again\nAPInext: next-secret\n")
        written(path, "APInext: newer-secret\nAPIown: own-secret\n")
        await until(lambda: keys.find("APInext") == ApiKey("APInext", "newer-secret"))
        assert keys.acting == OWN


def exchange(path: Path, text: str) -> None:
    """Puts a file with that text in the other's place, of the same size and time."""
    before = path.stat()
    other = written(path.with_name("other"), text)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert other.stat().st_size == before.st_size
    other.replace(path)


async def test_a_file_that_is_exchanged_keeping_size_and_time_is_seen(path: Path) -> None:
    async with KeyRing(OWN, path) as keys:
        exchange(path, "APInext: NEXT-secret\n")
        await until(lambda: keys.find("APInext") == ApiKey("APInext", "NEXT-secret"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text("APInext secret"),
        lambda path: path.write_bytes(b"\xff\xfe: x"),
        lambda path: path.unlink(),
        lambda path: path.write_text("#" * (1024 * 1024 + 1)),
    ],
)
async def test_a_broken_file_keeps_what_was_and_is_told_once(path: Path, damage: Callable[[Path], object]) -> None:
    with capture_logs() as logged:
        async with KeyRing(OWN, path) as keys:
            damage(path)
            await until(lambda: any(line["event"] == "file_refused" for line in logged))
            assert keys.find("APInext") == ApiKey("APInext", "next-secret")
            assert keys._file is not None
            for _ in range(4):
                await keys._file.look()
            written(path, "APIlater: later\n")
            await until(lambda: keys.find("APIlater"))
            assert keys.find("APInext") is None
    assert len([line for line in logged if line["log_level"] == "error"]) == 1
    assert "-secret" not in str(logged)


async def test_a_file_is_never_taken_that_leaves_no_key(path: Path) -> None:
    with capture_logs() as logged:
        async with KeyRing(ApiKey("", ""), path) as keys:
            written(path, "# all gone\n")
            await until(lambda: any(line["event"] == "file_refused" for line in logged))
            assert keys.acting == ApiKey("APInext", "next-secret")


def test_a_file_that_others_may_read_is_warned_of(path: Path) -> None:
    for mode, warned in ((0o600, False), (0o640, False), (0o644, True)):
        path.chmod(mode)
        with capture_logs() as logged:
            KeyRing(OWN, path).load()
        assert any(line["event"] == "key_file_open_to_others" for line in logged) is warned


async def test_a_wrong_file_at_the_start_is_a_sentence(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path, written(tmp_path / "bad", "nonsense"), written(tmp_path / "no", "")):
        with pytest.raises(SettingsError) as refused:
            async with KeyRing(ApiKey("", ""), path):
                pass
        (sentence,) = refused.value.sentences
        assert sentence.startswith("TRACK_KEYS_FILE: ")
        assert sentence.endswith(".")


def test_settings_need_a_key_or_a_file_of_keys(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "TRACK_KEYS_FILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SettingsError) as refused:
        Credentials.load()
    assert len(refused.value.sentences) == 2
    monkeypatch.setenv("TRACK_KEYS_FILE", str(path))
    assert KeyRing.of(Credentials.load()).load().acting == ApiKey("APInext", "next-secret")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "alone")
    with pytest.raises(SettingsError, match="LIVEKIT_API_SECRET is set without LIVEKIT_API_KEY"):
        Credentials.load()


async def test_closing_twice_is_no_error(path: Path) -> None:
    async with KeyRing(OWN, path) as keys:
        await keys.aclose()
        await asyncio.sleep(0)
