"""The arguments of the commands that call a server. Imports nothing of gRPC's, which reads the environment first."""

import argparse
from typing import Any, Final

_LONGEST_S: Final = 86_400.0
_SERVER: Final = ("address", "tls_ca", "tls_cert", "tls_key", "tls_name")


def add_health(parser: argparse.ArgumentParser) -> None:
    """Those of `health`."""
    _add_server(parser)
    parser.add_argument(
        "--service",
        default="track.v1.TrackService",
        help="what to ask for; default track.v1.TrackService: ready to serve. Empty: alive",
    )
    parser.add_argument("--timeout", type=_positive, default=3.0, metavar="S", help="seconds to wait; default 3")


def add_events(parser: argparse.ArgumentParser) -> None:
    """Those of `events`."""
    parser.add_argument(
        "--room", action="append", required=True, dest="rooms", help="the room; several times for several rooms"
    )
    parser.add_argument(
        "--kind",
        action="append",
        default=[],
        dest="kinds",
        metavar="KIND",
        help="only this kind of events, e.g. track_published; several times for several kinds; default: all",
    )
    parser.add_argument(
        "--filter", default="", dest="expression", metavar="CEL", help="only the events of which this holds"
    )
    parser.add_argument("--cursor", default="", help="go on after this cursor of the room; default: from a snapshot on")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print each message whole, as JSON")
    _add_server(parser)


def add_record(parser: argparse.ArgumentParser) -> None:
    """Those of `record`."""
    parser.add_argument("--room", required=True, help="the room")
    parser.add_argument(
        "--output", default="-", metavar="FILE", help="where to write, a file that is not there yet; default: stdout"
    )
    parser.add_argument(
        "--seconds", type=_positive, metavar="S", help="how long; default: until the room closes, or Ctrl-C"
    )
    _add_server(parser)


def add_replay(parser: argparse.ArgumentParser) -> None:
    """Those of `replay`."""
    parser.add_argument("file", metavar="FILE", help="the recording; - for stdin")
    parser.add_argument(
        "--policy",
        metavar="FILE",
        help="JSON of the quality policy by which to act, as GetQualityPolicy shows it; default: nothing is done",
    )
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        dest="allowed",
        metavar="ACTION",
        help="in the place of a policy: an action that may be taken, e.g. limit_network; several times for several",
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="chooses what the policy holds back; default 1"
    )
    parser.add_argument("--json", action="store_true", dest="as_json", help="print each event whole, as JSON")


def server_of(options: dict[str, Any]) -> dict[str, Any]:
    """Takes what says where the server is out of the options: the fields of Server."""
    return {name: options.pop(name) for name in _SERVER}


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", metavar="HOST:PORT", help="the server; default TRACK_LISTEN")
    for flag, what in (
        ("--tls-ca", "PEM file of the CA of the server's certificate; default: the server has no TLS"),
        ("--tls-cert", "PEM file of a client certificate, where the server asks for one"),
        ("--tls-key", "PEM file of the client certificate's private key"),
    ):
        parser.add_argument(flag, metavar="FILE", help=what)
    parser.add_argument("--tls-name", metavar="NAME", help="the name in the server's certificate; default: its host")


def _positive(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds, above 0 and up to a day")
    return seconds
