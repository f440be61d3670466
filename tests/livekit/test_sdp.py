"""Answers that take nothing: what they repeat, what they refuse."""

import pytest

from track_server.livekit.sdp import LocalEnd, idle_answer, parse_offer

_TRANSPORT = ["a=setup:actpass", "a=ice-ufrag:remoteufrag", "a=ice-pwd:remotepassword"]
_SESSION = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", "a=fingerprint:sha-256 AA:BB", "a=group:BUNDLE 0 1"]
_DATA = ["m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "a=mid:0", "a=sendrecv", "a=sctp-port:5000", *_TRANSPORT]
_LOCAL = LocalEnd("localufrag", "localpassword", (("sha-256", "CC:DD"),), "active", ("1 1 udp 1 192.0.2.1 4 typ host",))


def _video(direction: str, port: int = 9) -> list[str]:
    return [
        f"m=video {port} UDP/TLS/RTP/SAVPF 96 97",
        "a=mid:1",
        f"a={direction}",
        "a=rtcp-mux",
        "a=rtpmap:96 VP8/90000",
        "a=rtcp-fb:96 transport-cc",
        "a=rtpmap:97 rtx/90000",
        "a=fmtp:97 apt=96",
        "a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid",
        "a=ssrc:1234 msid:stream track",
        *_TRANSPORT,
    ]


def _sdp(*parts: list[str]) -> str:
    return "\r\n".join(line for part in parts for line in part) + "\r\n"


def _answer(*parts: list[str]) -> list[list[str]]:
    """The answer's lines, split into the session and one list per media section."""
    sections: list[list[str]] = [[]]
    for line in idle_answer(parse_offer(_sdp(_SESSION, *parts)), _LOCAL, version=7).split("\r\n"):
        if line.startswith("m="):
            sections.append([])
        sections[-1].append(line)
    return sections


def test_data_channels_are_refused_and_their_transport_is_taken() -> None:
    session, data = _answer(_DATA)
    assert data[0] == "m=application 0 UDP/DTLS/SCTP webrtc-datachannel"
    assert "a=bundle-only" not in data
    assert "a=group:BUNDLE 0" in session
    for line in (
        "a=mid:0",
        "a=ice-ufrag:localufrag",
        "a=ice-pwd:localpassword",
        "a=fingerprint:sha-256 CC:DD",
        "a=setup:active",
        "a=candidate:1 1 udp 1 192.0.2.1 4 typ host",
        "a=end-of-candidates",
    ):
        assert line in data


@pytest.mark.parametrize(
    ("offered", "answered"),
    [("sendonly", "recvonly"), ("sendrecv", "recvonly"), ("recvonly", "inactive"), ("inactive", "inactive")],
)
def test_media_is_accepted_for_receiving_only(offered: str, answered: str) -> None:
    _, _, video = _answer(_DATA, _video(offered))
    assert video[0] == "m=video 9 UDP/TLS/RTP/SAVPF 96 97"
    assert [line for line in video if line in ("a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive")] == [
        f"a={answered}"
    ]


def test_codecs_are_repeated_and_feedback_and_extensions_are_not() -> None:
    _, _, video = _answer(_DATA, _video("sendonly"))
    assert {"a=rtcp-mux", "a=rtpmap:96 VP8/90000", "a=rtpmap:97 rtx/90000", "a=fmtp:97 apt=96"} <= set(video)
    assert not any(line.startswith(("a=rtcp-fb", "a=extmap", "a=ssrc")) for line in video)


def test_section_that_the_offer_gives_up_stays_given_up() -> None:
    _, _, video = _answer(_DATA, _video("inactive", port=0))
    assert video[0].startswith("m=video 0 ")


def test_version_of_the_answer_is_in_its_origin() -> None:
    session, _ = _answer(_DATA)
    assert "o=- 1 7 IN IP4 127.0.0.1" in session


def test_offer_tells_the_remote_end() -> None:
    offer = parse_offer(_sdp(_SESSION, ["a=ice-lite"], _DATA))
    assert (offer.ice_ufrag, offer.ice_pwd, offer.ice_lite) == ("remoteufrag", "remotepassword", True)
    assert offer.fingerprints == (("sha-256", "AA:BB"),)
    assert not parse_offer(_sdp(_SESSION, _DATA)).ice_lite


@pytest.mark.parametrize(
    "sdp",
    [
        "",
        "nonsense",
        _sdp(_SESSION),
        _sdp(_SESSION, ["m=application"]),
        _sdp(_SESSION, ["m=audio x UDP/TLS/RTP/SAVPF 0", "a=mid:0", *_TRANSPORT]),
        _sdp(_SESSION, [line for line in _DATA if line != "a=mid:0"]),
        _sdp(_SESSION, [line for line in _DATA if not line.startswith("a=ice-pwd")]),
        _sdp([line for line in _SESSION if not line.startswith("a=fingerprint")], _DATA),
    ],
)
def test_offer_without_what_a_transport_needs_is_a_value_error(sdp: str) -> None:
    with pytest.raises(ValueError, match=r"offer without|without mid|not enough values|invalid literal"):
        parse_offer(sdp)


def test_data_channels_are_taken_where_they_are_wanted_alone() -> None:
    offer = parse_offer(_sdp(_SESSION, _DATA))
    refused, taken = (idle_answer(offer, _LOCAL, version=1, data=data) for data in (False, True))
    assert "m=application 0 " in refused
    assert "a=sctp-port" not in refused
    assert "m=application 9 " in taken
    assert "a=sctp-port:5000" in taken
