"""Whatever is sent: an answer or a refusal with details, never UNKNOWN, INTERNAL or a text from inside."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import grpc
import pytest
import pytest_asyncio
from google.protobuf import message_factory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.livekit_process import LiveKitProcess, tool
from tests.livekit_rooms import existing_room
from tests.refusals import read
from tests.servicer.contract import METHODS, request_of
from tests.servicer.messages import TEXTS, requests
from tests.track_process import TrackProcess

ROOM: Final = "a-room-for-strangers"
SERVICE: Final = "/track.v1.TrackService"
# What is well may wait for evidence that never comes: it is not waited for.
WAIT_S: Final = 0.4
# What must be answered at once is.
ANSWER_S: Final = 20.0
EMPTY_ANSWER: Final = b""
UNARY: Final = sorted(name for name, method in METHODS.items() if not method.server_streaming)

# The same examples each time: a run of CI must not depend on its luck. `make fuzz` looks further.
fixed = settings(
    max_examples=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


@pytest_asyncio.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TrackProcess]:
    """TrackService in front of a LiveKit of its own, without a media worker: nothing is really published."""
    directory = tmp_path_factory.mktemp("strangers")
    async with (
        LiveKitProcess(tool("livekit-server"), directory / "livekit") as livekit,
        existing_room(livekit, ROOM),
        TrackProcess(livekit, directory / "track", {"TRACK_MEDIA_WORKERS": "0"}) as track,
    ):
        yield track
    # Ended, so that the last line is whole.
    assert not track.logged("unexpected_error")
    assert "Traceback" not in track.log_path.read_text()


@pytest.fixture(scope="module")
def channel(server: TrackProcess) -> Iterator[grpc.Channel]:
    """A connection to it."""
    with grpc.insecure_channel(server.address) as made:
        yield made


@pytest.fixture(scope="module")
def admin(server: TrackProcess) -> tuple[tuple[str, str], ...]:
    """Metadata of an admin of the room who may do what is about all rooms too: it comes as far as anybody."""
    everywhere = {"room_list": True, "room_create": True, "room_record": True}
    return (("authorization", f"Bearer {server.token('admin', room_admin=True, room=ROOM, **everywhere)}"),)


def status(
    channel: grpc.Channel, path: str, raw: bytes, metadata: Any, *, streaming: bool = False, wait_s: float = WAIT_S
) -> tuple[grpc.StatusCode, str]:
    """Status and reason with which the call ends; of a stream, the first message is enough."""
    try:
        if streaming:
            stream: Any = channel.unary_stream(path)
            call = stream(raw, metadata=metadata, timeout=wait_s)
            next(call, None)
            call.cancel()
        else:
            unary: Any = channel.unary_unary(path)
            unary(raw, metadata=metadata, timeout=wait_s)
    except grpc.RpcError as error:
        failed: Any = error
        if failed.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            # The client's own.
            return failed.code(), ""
        refused = read(failed)
        assert refused.code is not grpc.StatusCode.INTERNAL, refused
        return refused.code, refused.reason
    return grpc.StatusCode.OK, ""


def called(
    channel: grpc.Channel, rpc: str, raw: bytes, metadata: Any, *, wait_s: float = WAIT_S
) -> tuple[grpc.StatusCode, str]:
    streaming = METHODS[rpc].server_streaming
    return status(channel, f"{SERVICE}/{rpc}", raw, metadata, streaming=streaming, wait_s=wait_s)


@pytest.mark.parametrize("rpc", METHODS)
def test_any_request(channel: grpc.Channel, admin: Any, rpc: str) -> None:
    @fixed
    @given(request=requests(rpc, ROOM))
    def holds(request: Any) -> None:
        called(channel, rpc, request.SerializeToString(), admin)

    holds()


@pytest.mark.parametrize("rpc", METHODS)
def test_any_bytes(channel: grpc.Channel, admin: Any, rpc: str) -> None:
    valid = request_of(rpc, room=ROOM).SerializeToString()

    @fixed
    @given(raw=st.binary(max_size=200) | damaged(valid))
    def holds(raw: bytes) -> None:
        well = decodes(rpc, raw)
        code, reason = called(channel, rpc, raw, admin, wait_s=WAIT_S if well else ANSWER_S)
        if not well:
            assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")

    holds()


@pytest.mark.parametrize("wire", range(8))
def test_fields_of_another_wire_type(channel: grpc.Channel, admin: Any, wire: int) -> None:
    for rpc, method in METHODS.items():
        for field in method.input_type.fields:
            raw = bytes([field.number << 3 | wire]) + b"\x01a\x01\x01\x01\x01\x01\x01\x01"
            called(channel, rpc, raw, admin)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "//",
        "/track.v1.TrackService",
        "/track.v1.TrackService/",
        "track.v1.TrackService/GetServerInfo",
        "//track.v1.TrackService/GetServerInfo",
        "/track.v1.TrackService//GetServerInfo",
        "/track.v1.TrackService/GetServerInfo/",
        "/track.v1.TrackService/GetServerInfo?x=1",
        "/track.v1.TrackService/getServerInfo",
        "/track.v1.TrackService/GetServerInf%6f",
        "/track.v1.TrackService/__init__",
        "/track.v1.trackservice/GetServerInfo",
        "/track.v1.TrackService.GetServerInfo",
        "/TrackService/GetServerInfo",
        "/track.media.v1.MediaService/Attach",
        "/track.permission.v1.PermissionService/CheckPermission",
        "/../track.v1.TrackService/GetServerInfo",
        "/" + "x" * 4000,
    ],
)
def test_a_path_that_is_not_quite_one(channel: grpc.Channel, admin: Any, path: str) -> None:
    call: Any = channel.unary_unary(path)
    with pytest.raises(grpc.RpcError) as refused:
        call(EMPTY_ANSWER, metadata=admin, timeout=ANSWER_S)
    error: Any = refused.value
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "Traceback" not in error.details()


PRINTABLE: Final = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60)


def test_any_authorization(channel: grpc.Channel, server: TrackProcess) -> None:
    token = server.token("admin", room_admin=True, room=ROOM)
    schemes = st.sampled_from(["Bearer", "bearer", "Basic", "", "Bearer Bearer", "Bearer,", "\t"])
    parts = token.split(".")
    tokens = st.one_of(
        PRINTABLE,
        st.sampled_from([token[:-1], token + ".", ".".join(parts[:2]), "..", ".".join(reversed(parts))]),
        # Not the last letter, of which some bits mean nothing.
        st.integers(0, len(token) - 2).map(lambda place: token[:place] + "_" + token[place + 1 :]),
    )

    @settings(fixed, max_examples=200)
    @given(scheme=schemes, text=tokens, twice=st.booleans())
    def holds(scheme: str, text: str, twice: bool) -> None:
        metadata = (("authorization", f"{scheme} {text}".strip()),) * (2 if twice else 1)
        raw = request_of("ListTracks", room=ROOM).SerializeToString()
        code, reason = called(channel, "ListTracks", raw, metadata, wait_s=ANSWER_S)
        if text not in token:
            assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")

    holds()


@pytest.mark.parametrize("rpc", ["ListTracks", "UnpublishTrack", "WatchEvents"])
def test_any_metadata(channel: grpc.Channel, admin: Any, rpc: str) -> None:
    names = st.sampled_from(
        ["x-request-id", "authorization-bin", "x-request-id-bin", "grpc-accept-encoding", "traceparent", "cookie"]
    )

    @fixed
    @given(junk=st.lists(st.tuples(names, PRINTABLE), max_size=4), place=st.booleans())
    def holds(junk: list[tuple[str, str]], place: bool) -> None:
        sent = [(name, value.encode() if name.endswith("-bin") else value) for name, value in junk]
        metadata = [*admin, *sent] if place else [*sent, *admin]
        code, _ = called(channel, rpc, request_of(rpc, room=ROOM).SerializeToString(), metadata)
        assert code is not grpc.StatusCode.UNAUTHENTICATED

    holds()


@pytest.mark.parametrize("text", TEXTS)
def test_any_request_id(channel: grpc.Channel, admin: Any, text: str) -> None:
    for rpc in UNARY:
        if "request_id" in METHODS[rpc].input_type.fields_by_name:
            request = request_of(rpc, room=ROOM)
            request.request_id, request.validate_only = text, True
            called(channel, rpc, request.SerializeToString(), admin)


@st.composite
def damaged(draw: st.DrawFn, raw: bytes) -> bytes:
    """The bytes with some of them changed, left out or said twice."""
    changed = bytearray(raw)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(0, len(changed) - 1)))
        changed[place : place + draw(st.integers(0, 2))] = draw(st.binary(max_size=3))
    return bytes(changed)


def decodes(rpc: str, raw: bytes) -> bool:
    """Whether protobuf makes a request of them."""
    try:
        message_factory.GetMessageClass(METHODS[rpc].input_type).FromString(raw)
    except Exception:  # noqa: BLE001  whatever it says
        return False
    return True
