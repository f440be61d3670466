"""SDP answers that take nothing of what is offered: pure text in, text out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

DtlsSetup = Literal["active", "passive"]

SCTP_PORT: Final = 5000
"""Of data channels, at both ends; what WebRTC's implementations use (RFC 8841 leaves it open)."""
MAX_MESSAGE_BYTES: Final = 64 * 1024
"""The longest message of a data channel that is taken; LiveKit's are shorter."""

# What an answer repeats of an offered media section, so that LiveKit can bind a track to a codec. Left out on purpose:
# header extensions and rtcp-fb. Without them LiveKit has nothing to estimate bandwidth with, and does not probe for it.
_REPEATED: Final = ("rtpmap:", "fmtp:", "rtcp-mux", "rtcp-rsize")
# Offered direction to ours: we may receive, and never send.
_DIRECTIONS: Final = {"sendrecv": "recvonly", "sendonly": "recvonly", "recvonly": "inactive", "inactive": "inactive"}


@dataclass(frozen=True, slots=True)
class OfferedSection:
    """One media section of an offer. ``attributes`` are its ``a=`` lines without the prefix."""

    kind: str
    port: int
    protocol: str
    formats: str
    mid: str
    attributes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """What an answer and a transport need of an offer; fingerprints are pairs of algorithm and value."""

    sections: tuple[OfferedSection, ...]
    ice_ufrag: str
    ice_pwd: str
    ice_lite: bool
    fingerprints: tuple[tuple[str, str], ...]

    @property
    def transport(self) -> tuple[object, ...]:
        """What identifies the remote end: it changes when the other side restarts ICE or renews its connection."""
        return (self.ice_ufrag, self.ice_pwd, self.fingerprints)


@dataclass(frozen=True, slots=True)
class LocalEnd:
    """Our side of the transport; ``candidates`` are complete, as values of ``a=candidate``."""

    ice_ufrag: str
    ice_pwd: str
    fingerprints: tuple[tuple[str, str], ...]
    setup: DtlsSetup
    candidates: tuple[str, ...]


def parse_offer(sdp: str) -> Offer:
    """Read an offer whose media sections all share one transport (BUNDLE), as LiveKit's do.

    Raises ValueError if a section is malformed or has no mid, or if ICE credentials or a fingerprint are missing.
    """
    session: list[str] = []
    sections: list[tuple[str, list[str]]] = []
    for line in sdp.splitlines():
        if line.startswith("m="):
            sections.append((line[2:], []))
        elif line.startswith("a="):
            (sections[-1][1] if sections else session).append(line[2:])
    everything = [*session, *(attribute for _, attributes in sections for attribute in attributes)]
    fingerprints: dict[tuple[str, str], None] = {}
    for value in _values(everything, "fingerprint"):
        algorithm, _, digest = value.partition(" ")
        fingerprints[algorithm, digest] = None
    ufrag, pwd = _values(everything, "ice-ufrag"), _values(everything, "ice-pwd")
    if not (sections and ufrag and pwd and fingerprints):
        raise ValueError("offer without media sections, ICE credentials or fingerprint")
    return Offer(
        sections=tuple(_section(media, attributes) for media, attributes in sections),
        ice_ufrag=ufrag[0],
        ice_pwd=pwd[0],
        ice_lite="ice-lite" in everything,
        fingerprints=tuple(fingerprints),
    )


def idle_answer(offer: Offer, local: LocalEnd, *, version: int, data: bool = False) -> str:
    """The answer that agrees to the transport and to receive media, sends none, and refuses data channels.

    Data channels are refused (port 0) unless ``data`` is wanted, because LiveKit sends every data packet of the room to
    every participant that has them; pion brings the transport up all the same. Media sections are accepted, since
    LiveKit binds a subscription, and reports its publisher's quality, only then. ``version`` must grow with each
    answer.
    """
    bundle = " ".join(section.mid for section in offer.sections)
    lines = [
        "v=0",
        f"o=- 1 {version} IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        f"a=group:BUNDLE {bundle}",
        "a=msid-semantic:WMS *",
    ]
    for section in offer.sections:
        lines += _answered(section, local, data=data)
    return "\r\n".join(lines) + "\r\n"


def _answered(section: OfferedSection, local: LocalEnd, *, data: bool) -> list[str]:
    media = section.kind in ("audio", "video")
    data = data and section.kind == "application"
    port = 9 if (media or data) and section.port else 0
    lines = [
        f"m={section.kind} {port} {section.protocol} {section.formats}",
        "c=IN IP4 0.0.0.0",
        f"a=mid:{section.mid}",
        f"a=ice-ufrag:{local.ice_ufrag}",
        f"a=ice-pwd:{local.ice_pwd}",
        "a=ice-options:trickle",
        *(f"a=fingerprint:{algorithm} {digest}" for algorithm, digest in local.fingerprints),
        f"a=setup:{local.setup}",
        *(f"a=candidate:{candidate}" for candidate in local.candidates),
        "a=end-of-candidates",
    ]
    if media:
        offered = next((name for name in section.attributes if name in _DIRECTIONS), "sendrecv")
        lines.append(f"a={_DIRECTIONS[offered]}")
        lines += [f"a={attribute}" for attribute in section.attributes if attribute.startswith(_REPEATED)]
    if data:
        lines += [f"a=sctp-port:{SCTP_PORT}", f"a=max-message-size:{MAX_MESSAGE_BYTES}"]
    return lines


def _section(media: str, attributes: Sequence[str]) -> OfferedSection:
    kind, port, protocol, formats = media.split(" ", 3)
    mid = _values(attributes, "mid")
    if not mid:
        raise ValueError(f"media section without mid: m={media}")
    return OfferedSection(kind, int(port.partition("/")[0]), protocol, formats, mid[0], tuple(attributes))


def _values(attributes: Sequence[str], name: str) -> list[str]:
    prefix = f"{name}:"
    return [attribute.removeprefix(prefix) for attribute in attributes if attribute.startswith(prefix)]
