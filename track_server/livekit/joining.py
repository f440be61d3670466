"""How a signalling session begins: the WebSocket to LiveKit, why it was refused, and LiveKit's answer to the join."""

from typing import Final

import aiohttp
import yarl
from google.protobuf.message import DecodeError
from livekit.protocol import rtc

from track_server.livekit.disconnect import SignalClosed, SignalRefused, SignalUnreachable, sent_away

CLOSE_TIMEOUT_S: Final = 1.0
"""How long LiveKit may take to agree to the end of a WebSocket."""

# Protocol 16 of LiveKit's clients: SubscriberAsPrimary (3), ConnectionQuality (5), leave with an action (13) and
# RequestResponse for successes too (15) are what we build on; servers from 1.9 on know it.
_PROTOCOL: Final = 16
# JoinResponse carries every participant with up to 64 KiB of attributes, and 512 KiB of room metadata.
_MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024


def signal_url(url: str) -> yarl.URL:
    """Where signalling is, of LiveKit's URL: ws(s) or http(s). Raises ValueError."""
    base = yarl.URL(url)
    scheme = {"http": "ws", "https": "wss"}.get(base.scheme, base.scheme)
    if scheme not in ("ws", "wss") or not base.host:
        raise ValueError(f"not a LiveKit URL: {url!r}")
    query = {
        "protocol": str(_PROTOCOL),
        "sdk": "python",
        "auto_subscribe": "0",
        "auto_subscribe_data_track": "0",
        "adaptive_stream": "0",
    }
    return (base.with_scheme(scheme) / "rtc").with_query(query)


async def open_socket(http: aiohttp.ClientSession, url: yarl.URL, token: str) -> aiohttp.ClientWebSocketResponse:
    """The WebSocket, of a `signal_url`. Raises SignalUnreachable, SignalRefused."""
    headers = {"Authorization": f"Bearer {token}"}
    try:
        return await http.ws_connect(
            url,
            headers=headers,
            max_msg_size=_MAX_MESSAGE_BYTES,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
        )
    except aiohttp.WSServerHandshakeError as error:
        reason = (await _refusal(http, url, headers)).replace(token, "(token)")
        # Without its cause, which carries the request's headers, and with them the token.
        raise SignalRefused(error.status, reason or error.message) from None
    except (aiohttp.ClientError, OSError) as error:
        raise SignalUnreachable(str(error)) from error


async def read_join(socket: aiohttp.ClientWebSocketResponse) -> rtc.JoinResponse:
    """LiveKit's first message. Raises SignalUnreachable, and SignalClosed where it sends us away at once."""
    message = await socket.receive()
    if message.type is not aiohttp.WSMsgType.BINARY:
        raise SignalUnreachable(f"closed before the JoinResponse, code {socket.close_code}")
    try:
        response = rtc.SignalResponse.FromString(message.data)
    except DecodeError as error:
        raise SignalUnreachable("the first message is not LiveKit's") from error
    match response.WhichOneof("message"):
        case "join":
            return response.join
        case "leave":
            raise SignalClosed(sent_away(response.leave))
        case _:
            raise SignalUnreachable("the first message is not a JoinResponse")


async def _refusal(http: aiohttp.ClientSession, url: yarl.URL, headers: dict[str, str]) -> str:
    """A refused WebSocket has no body; LiveKit's validation of the same request says in words what is wrong."""
    url = url.with_scheme("https" if url.scheme == "wss" else "http")
    try:
        async with http.get(url.with_path(f"{url.path}/validate", keep_query=True), headers=headers) as answer:
            return "" if answer.ok else (await answer.text()).strip()
    except (aiohttp.ClientError, OSError):
        return ""
