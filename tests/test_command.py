"""The command line."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import jwt
import pytest
import pytest_asyncio
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.certificates import issue
from track_server.__main__ import main
from track_server.config import PermissionServiceSettings, Settings
from track_server.servicer.health import Health

KEY = "APIkey"
SECRET = "secret-of-the-tests-with-more-than-32-bytes"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        if name.startswith(("TRACK_", "LIVEKIT_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LIVEKIT_API_KEY", KEY)
    monkeypatch.setenv("LIVEKIT_API_SECRET", SECRET)
    return monkeypatch


def claims(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert main(["token", *arguments]) == 0
    decoded: dict[str, object] = jwt.decode(capsys.readouterr().out.strip(), SECRET, algorithms=["HS256"], issuer=KEY)
    return decoded


def test_token_prints_what_a_participant_needs(capsys: pytest.CaptureFixture[str]) -> None:
    decoded = claims(capsys, "--room", "room", "--identity", "alice", "--no-can-publish", "--ttl", "90s")
    assert decoded["sub"] == "alice"
    assert decoded["exp"] - decoded["nbf"] == 90  # type: ignore[operator]
    assert decoded["video"] == {
        "roomJoin": True,
        "room": "room",
        "canPublish": False,
        "canPublishData": True,
        "canSubscribe": True,
    }


def test_token_prints_what_admins_and_services_need(capsys: pytest.CaptureFixture[str]) -> None:
    admin = claims(capsys, "--room", "room", "--identity", "ops", "--admin")["video"]
    assert isinstance(admin, dict)
    assert (admin["roomAdmin"], admin["roomJoin"], admin["room"]) == (True, True, "room")
    service = claims(capsys, "--list")["video"]
    assert isinstance(service, dict)
    assert service["roomList"] is True
    assert "roomJoin" not in service
    named = claims(capsys, "--list", "--identity", "dashboard")
    assert (named["sub"], named["video"]) == ("dashboard", service)
    sources = claims(capsys, "--room", "r", "--identity", "i", "--can-publish-sources", "camera, microphone")["video"]
    assert isinstance(sources, dict)
    assert sources["canPublishSources"] == ["camera", "microphone"]


@pytest.mark.parametrize("arguments", [[], ["--identity", "alice"], ["--admin"], ["--room", "room"]])
def test_token_that_would_grant_nothing_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(["token", *arguments]) == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize("ttl", ["0", "soon", "-5s", "1.5h", "9999999999d"])
def test_token_with_an_odd_span_is_refused(ttl: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["token", "--list", f"--ttl={ttl}"])
    assert ended.value.code == 2


@pytest.mark.parametrize("sources", ["", "camra", "camera,", "TRACK_SOURCE_CAMERA"])
def test_token_with_an_unknown_source_is_refused(capsys: pytest.CaptureFixture[str], sources: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["token", "--room", "r", "--identity", "i", f"--can-publish-sources={sources}"])
    assert ended.value.code == 2
    assert "there are camera, microphone, screen_share, screen_share_audio" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["serve", "worker", "token"])
def test_missing_settings_end_a_command_at_once_with_a_sentence_each(
    environment: pytest.MonkeyPatch, command: str
) -> None:
    environment.delenv("LIVEKIT_API_KEY")
    done = subprocess.run(
        [sys.executable, "-m", "track_server", command, *(["--list"] if command == "token" else [])],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("LIVEKIT_API_KEY is not set. Set it to: ")
    assert "Traceback" not in done.stderr


def test_a_store_that_cannot_be_used_ends_serve_with_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "track_server", "serve", "--store", str(tmp_path), "--livekit-url", "ws://127.0.0.1:1"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 2
    assert "set TRACK_STORE to a file" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_names_every_variable_and_never_asks_for_the_secret(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    text = capsys.readouterr().out
    assert "TRACK_MEDIA_URL_HOSTS" in text
    assert "secret" not in text.lower()


@pytest.mark.parametrize("command", ["serve", "worker", "permissions"])
def test_help_tells_every_default(capsys: pytest.CaptureFixture[str], command: str) -> None:
    settings = PermissionServiceSettings if command == "permissions" else Settings
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    told = 0
    for name, field in settings.model_fields.items():
        description = f"{settings.variable(name)}. {' '.join((field.description or '').split())}"
        if description in text:
            after = text.partition(description)[2]
            default = field.default
            if field.is_required():
                assert after.startswith(" Required."), name
            elif isinstance(default, str | int | float | Path) and default != "":
                assert after.startswith(f" Default: {default}."), name
                told += 1
            else:
                assert not after.startswith(" Default"), name
    assert told >= 3


@pytest_asyncio.fixture
async def served() -> AsyncIterator[tuple[Health, str]]:
    """A health service on a free port."""
    servicer, server = Health(), aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield servicer, f"0.0.0.0:{port}"
    await server.stop(0)


@pytest.mark.parametrize(
    "arguments",
    [
        ["token", "--room", "r", "--identity", "\udcff"],
        ["health", "--address", "\udcff:1"],
        ["health", "--service", "\udcff"],
        ["events", "--room", "\udcff"],
    ],
)
def test_an_argument_that_is_not_utf8_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "is not UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "1e400", "soon"])
def test_health_does_not_wait_for_what_is_no_time(capsys: pytest.CaptureFixture[str], seconds: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["health", f"--timeout={seconds}"])
    assert ended.value.code == 2
    assert "no number of seconds" in capsys.readouterr().err


async def test_health_tells_by_its_exit_status_whether_the_server_serves(
    served: tuple[Health, str], environment: pytest.MonkeyPatch
) -> None:
    servicer, address = served
    environment.setenv("TRACK_LISTEN", address)
    service = "track.v1.TrackService"
    await servicer.set(service, health_pb2.HealthCheckResponse.SERVING)
    assert await asyncio.to_thread(main, ["health"]) == 0
    await servicer.set(service, health_pb2.HealthCheckResponse.NOT_SERVING)
    assert await asyncio.to_thread(main, ["health"]) == 1
    assert await asyncio.to_thread(main, ["health", "--service", ""]) == 0
    assert await asyncio.to_thread(main, ["health", "--service", "nothing"]) == 1
    assert await asyncio.to_thread(main, ["health", "--address", "127.0.0.1:1", "--timeout", "1"]) == 1


def test_health_of_nothing_that_can_be_asked_ends_with_a_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ours = issue("ours").write(tmp_path, "ours")
    other = issue("other").write(tmp_path, "other")
    no_pem = tmp_path / "no.pem"
    no_pem.write_text("no certificate")
    for arguments, says in (
        (["--address", "nowhere"], "--address must be host:port, e.g. 127.0.0.1:50051, and is nowhere."),
        (["--tls-ca", str(tmp_path / "none")], f"--tls-ca: {tmp_path / 'none'} cannot be read: "),
        (["--tls-ca", str(no_pem)], f"--tls-ca: {no_pem} has no certificate in PEM."),
        (["--tls-cert", str(ours[0])], "--tls-cert, --tls-key and --tls-name need --tls-ca."),
        (["--tls-ca", str(ours[0]), "--tls-cert", str(ours[0])], "--tls-cert and --tls-key go together."),
        (
            ["--tls-ca", str(ours[0]), "--tls-cert", str(ours[0]), "--tls-key", str(other[1])],
            f"--tls-key: {other[1]} is not the private key of the certificate in {ours[0]}.",
        ),
    ):
        assert main(["health", *arguments]) == 2, arguments
        assert capsys.readouterr().err.startswith(says), arguments
