"""TLS on the real server: encrypted, exchanged while it runs, and refused at the start where it is wrong."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from tests.certificates import authority, issue, server_certificate
from tests.chained_server import until
from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.participants import microphone, participant
from tests.refusals import refusal
from tests.server_process import StartError
from tests.servicer.tls import Files, asked, listed, secure, shown, unreachable, until_shown
from tests.streams import events
from track_server.__main__ import main
from track_server.keys import parse_keys

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
README = Path(__file__).resolve().parents[2] / "README.md"


async def test_calls_are_encrypted_and_the_server_is_known_by_its_certificate(
    start_track: StartTrack, livekit: LiveKitProcess, files: Files, room: str
) -> None:
    track = await start_track(livekit, files.tls)
    token = track.token("alice", room_join=True, room=room)
    async with secure(track, files.ca, token=token) as client:
        assert not (await listed(client, room)).tracks
    async with secure(track, files.ca) as client:
        assert (await refusal(asked(client))).code is UNAUTHENTICATED
    async with secure(track, authority("another"), token=token) as client:
        await unreachable(asked(client))
    async with track.client("alice", room_join=True, room=room) as client:
        await unreachable(asked(client))


async def test_a_certificate_is_exchanged_while_connections_stay(
    start_track: StartTrack, livekit: LiveKitProcess, files: Files, room: str
) -> None:
    track = await start_track(livekit, files.tls)
    async with (
        secure(track, files.ca, token=track.token("a", room_list=True)) as before,
        events(before, room) as stream,
    ):
        await stream.snapshot()
        assert await shown(track, files.ca) == "CN=server"
        # Broken first: what was goes on.
        (files.directory / "server.pem").write_text("no certificate")
        await until(lambda: track.logged("file_refused"))
        assert "TRACK_TLS_CERT" in track.logged("file_refused")[0]["problem"]
        assert await shown(track, files.ca) == "CN=server"
        files.serve(server_certificate(files.ca, "exchanged"))
        await until_shown(track, files.ca, "exchanged")
        async with secure(track, files.ca, token=track.token("a", room_list=True)) as after:
            await asked(after)
        await asked(before)
        async with participant(livekit, room, "bob") as bob:
            await microphone(bob)
            await stream.until("track_published")
    # The other half of a pair that does not match is told, and not shown.
    issue("unmatched").write(files.directory, "other")
    (files.directory / "other.key").replace(files.directory / "server.key")
    await until(lambda: len(track.logged("file_refused")) == 2)
    assert "TRACK_TLS_KEY" in track.logged("file_refused")[1]["problem"]
    assert await shown(track, files.ca) == "CN=exchanged"


async def test_health_is_asked_over_tls(
    start_track: StartTrack, livekit: LiveKitProcess, files: Files, capfd: pytest.CaptureFixture[str]
) -> None:
    files.map("")
    track = await start_track(livekit, files.mtls)
    ca, _ = files.ca.write(files.directory, "ca")
    cert, key = issue("probe", files.clients_ca).write(files.directory, "probe")
    whole = ["--tls-ca", str(ca), "--tls-cert", str(cert), "--tls-key", str(key)]
    for flags, status in (
        (whole, 0),
        ([*whole, "--tls-name", "localhost"], 0),
        ([*whole, "--tls-name", "example.org"], 1),
        (whole[:2], 1),
        ([], 1),
        (whole[:4], 2),
        (whole[2:], 2),
        (["--tls-ca", "/no/such/file"], 2),
    ):
        assert await asyncio.to_thread(main, ["health", "--address", track.address, *flags]) == status, flags
    said = capfd.readouterr()
    assert said.out.count(": SERVING\n") == 2
    assert "Traceback" not in said.err


async def test_the_commands_of_the_readme_are_true(
    start_track: StartTrack, livekit: LiveKitProcess, files: Files, grpcurl: Path
) -> None:
    section = README.read_text().partition("## TLS and keys\n")[2].partition("\n## ")[0]
    blocks = {kind: re.findall(rf"```{kind}\n(.*?)```", section, re.DOTALL) for kind in ("sh", "toml", "yaml")}
    files.ca.write(files.directory, "ca")
    issue("any", files.clients_ca, names=["dashboard.example.org"]).write(files.directory, "client")
    files.map(blocks["toml"][0])
    assert list(parse_keys(blocks["yaml"][0])) == ["APInew", "APIold"]
    settings = {"TRACK_MEDIA_WORKERS": "0"}
    async with existing_room(livekit, "demo"):
        for block in blocks["sh"]:
            exported = re.findall(r"(TRACK_\w+)=(\S+)", block)
            settings |= {name: str(files.directory / file) for name, file in exported}
            track = await start_track(livekit, settings)
            path = os.pathsep.join([str(grpcurl.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
            environment = {"PATH": path, "ADMIN": track.token("operator", room_admin=True, room="demo")}
            commands = [line for line in block.splitlines() if "localhost:50051" in line]
            assert len(commands) == 2
            for command in commands:
                process = await asyncio.create_subprocess_shell(
                    command.replace("localhost:50051", track.address.replace("127.0.0.1", "localhost")),
                    cwd=files.directory,
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                )
                output, _ = await process.communicate()
                assert process.returncode == 0, (command, output)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"TRACK_TLS_KEY": ""}, "TRACK_TLS_CERT and TRACK_TLS_KEY go together"),
        ({"TRACK_TLS_CERT": "", "TRACK_TLS_KEY": ""}, "TRACK_TLS_CLIENT_CA needs TRACK_TLS_CERT"),
        ({"TRACK_TLS_CLIENT_CA": ""}, "TRACK_TLS_CLIENTS needs TRACK_TLS_CLIENT_CA"),
        ({"TRACK_TLS_CERT": "/no/such/file"}, "TRACK_TLS_CERT: /no/such/file cannot be read"),
        ({"TRACK_TLS_CERT": "{clients}"}, "TRACK_TLS_CERT: {clients} has no certificate in PEM"),
        ({"TRACK_TLS_KEY": "{clients}"}, "TRACK_TLS_KEY: {clients} has no private key in PEM"),
        ({"TRACK_TLS_KEY": "{ca_key}"}, "TRACK_TLS_KEY: {ca_key} is not the private key of the certificate"),
        ({"TRACK_TLS_CLIENT_CA": "{clients}"}, "TRACK_TLS_CLIENT_CA: {clients} has no certificate in PEM"),
        ({"TRACK_TLS_CLIENTS": "{ca_key}"}, "TRACK_TLS_CLIENTS: the file is no TOML"),
        ({"TRACK_AUTH_MODE": "off", "TRACK_LISTEN": "0.0.0.0:0"}, "TRACK_LISTEN must be a loopback address"),
    ],
)
async def test_wrong_settings_end_the_start_with_a_sentence(
    start_track: StartTrack, livekit: LiveKitProcess, files: Files, change: dict[str, str], says: str
) -> None:
    files.map("")
    paths = {"clients": str(files.directory / "clients.toml"), "ca_key": str(files.directory / "clients-ca.key")}
    given = {name: value.format(**paths) for name, value in change.items()}
    with pytest.raises(StartError) as ended:
        await start_track(livekit, files.mtls | given)
    text = str(ended.value)
    assert says.format(**paths) in text
    assert "Traceback" not in text
