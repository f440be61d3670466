"""The command line: `track-server serve | worker | permissions | demo | token | health | events | record | replay`."""

import argparse
import asyncio
import gc
import os
import re
import sys
import warnings
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from track_server.commands.arguments import add_events, add_health, add_record, add_replay, server_of
from track_server.config import (
    Credentials,
    Environment,
    PermissionServiceSettings,
    Settings,
    SettingsError,
)

# Wrong use, as argparse itself has it.
_WRONG: Final = 2

# Given in the environment alone: a command line can be read by everybody on the machine.
_SECRETS: Final = frozenset({"livekit_api_secret", "permission_token"})
_WORKER_SETTINGS: Final = (
    "livekit_url",
    "livekit_api_key",
    "keys_file",
    "media_dir",
    "media_url_hosts",
    "worker_max_sessions",
    "worker_sessions_per_child",
    "worker_sessions_before_recycling",
    "log_level",
    "log_format",
)
_OWN: Final = re.compile("^permission_(?:server_)?")
_SOURCES: Final = ("camera", "microphone", "screen_share", "screen_share_audio")
_UNITS_S: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_S: Final = 3650 * 86400
_GC_THRESHOLDS: Final = (50_000, 20, 20)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 2 where the settings are wrong, with a sentence each on stderr."""
    parser = _parser()
    given = sys.argv[1:] if arguments is None else arguments
    options = vars(parser.parse_args(given))
    for argument in given:
        # Its bytes come as surrogates, which can be neither sent nor signed.
        if any("\udc80" <= character <= "\udcff" for character in argument):
            parser.error(f"{argument!r} is not UTF-8")
    run = options.pop("run")
    _forgive_short_secrets()
    try:
        status: int = run(options)
    except SettingsError as error:
        for sentence in error.sentences:
            print(sentence, file=sys.stderr)
        return _WRONG
    except KeyboardInterrupt:
        return 130
    return status


def _serve(options: dict[str, Any]) -> int:
    # Before the rest is loaded: a second of CPU that wrong settings need not wait for.
    settings = Settings.load(options)
    # What was measured a second ago is not garbage yet: looked at as often as is usual, it would be taken for lasting,
    # and all that lasts be looked through again and again, for half a second each time at 1,000 tracks. What is loaded
    # is not garbage either: to look for some meanwhile would take a tenth of the start.
    gc.set_threshold(*_GC_THRESHOLDS)
    _prepare_grpc()
    import uvloop

    from track_server.logs import configure_logging
    from track_server.server import serve
    from track_server.store.records import StoreError

    events = configure_logging(level=settings.log_level, as_json=settings.log_format == "json")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings, events))
    except StoreError as error:
        raise SettingsError([str(error)]) from error
    return 0


def _prepare_grpc() -> None:
    """What grpc reads when it is imported."""
    # Workers are processes of their own, not forks that go on: gRPC need not prepare for one, nor log that it did not.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    # A call costs a sixth less CPU without the event engine (grpcio 1.85.1).
    os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener,-event_engine_client")
    # Otherwise every handshake that fails, as strangers' do, puts a line of another form into the log.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


def _worker(options: dict[str, Any]) -> int:
    supervised = options.pop("supervised")
    settings = Settings.load(options)
    from track_server.logs import configure_logging
    from track_server.media.settings import MediaSettings
    from track_server.media.worker import run_worker

    configure_logging(level=settings.log_level, as_json=settings.log_format == "json")
    media = MediaSettings(
        url=settings.livekit_ws_url,
        api_key=settings.livekit_api_key,
        api_secret=settings.livekit_api_secret.get_secret_value(),
        keys_file=settings.keys_file,
        max_sessions=settings.worker_max_sessions,
        sessions_per_child=settings.worker_sessions_per_child,
        sessions_before_recycling=settings.worker_sessions_before_recycling,
        media_dir=settings.media_dir,
        url_hosts=tuple(sorted(settings.media_url_hosts)),
        log_level=settings.log_level,
        log_json=settings.log_format == "json",
    )
    run_worker(media, supervised=supervised)
    return 0


def _permissions(options: dict[str, Any]) -> int:
    settings = PermissionServiceSettings.load(options)
    _prepare_grpc()
    import uvloop

    from track_server.logs import configure_logging
    from track_server.permissions.program import serve

    events = configure_logging(level=settings.log_level, as_json=settings.log_format == "json")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, events))
    return 0


def _demo(options: dict[str, Any]) -> int:
    from track_server.demo.demo import run

    return run(**{name: value for name, value in options.items() if value is not None})


def _token(options: dict[str, Any]) -> int:
    from livekit.api import VideoGrants

    from track_server.keys import KeyRing
    from track_server.livekit.tokens import TokenMint
    from track_server.logs import configure_logging

    credentials = Credentials.load()
    joins = bool(options["identity"] and options["room"])
    named = bool(options["identity"]) and not (options["list"] or options["create"])
    everywhere = options["list"] or options["create"]
    if not options["room"] and (named or options["admin"] or (options["record"] and not everywhere)):
        print("--identity, --admin and --record are about one room: give --room.", file=sys.stderr)
        return _WRONG
    if not (joins or any(options[grant] for grant in ("admin", "list", "create", "record"))):
        print("A token needs at least one of --identity, --admin, --list, --create and --record.", file=sys.stderr)
        return _WRONG
    grants = VideoGrants(
        room=options["room"],
        room_join=joins or None,
        room_admin=options["admin"] or None,
        room_list=options["list"] or None,
        room_create=options["create"] or None,
        room_record=options["record"] or None,
        can_publish=options["can_publish"],
        can_publish_data=options["can_publish_data"],
        can_publish_sources=options["can_publish_sources"],
        can_subscribe=options["can_subscribe"],
    )
    if credentials.keys_file is not None:
        # What is wrong with it is told beside the token, not in it.
        configure_logging(level="warning", as_json=False)
    acting = KeyRing.of(credentials).load().acting
    mint = TokenMint(acting.key, acting.secret)
    print(mint.user(grants, identity=options["identity"], ttl=options["ttl"]))
    return 0


def _health(options: dict[str, Any]) -> int:
    from track_server.commands.channel import Server
    from track_server.commands.health import ask

    return ask(Server(**server_of(options)), **options)


def _events(options: dict[str, Any]) -> int:
    from track_server.commands.channel import Server
    from track_server.commands.events import watch

    return watch(Server(**server_of(options)), **options)


def _record(options: dict[str, Any]) -> int:
    from track_server.commands.channel import Server
    from track_server.commands.record import record

    return record(Server(**server_of(options)), **options)


def _replay(options: dict[str, Any]) -> int:
    from track_server.commands.replay import replay

    return replay(options.pop("file"), **options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="track-server", description="Manages the tracks of LiveKit rooms.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = _command(commands, "serve", _serve, "serve TrackService until SIGTERM")
    _add_settings(serve, tuple(name for name in Settings.model_fields if name not in _SECRETS))

    worker = _command(commands, "worker", _worker, "host publications as a media worker, until SIGTERM")
    _add_settings(worker, _WORKER_SETTINGS)
    worker.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)

    permissions = _command(
        commands, "permissions", _permissions, "decide by a file of rules what TrackService may let callers do"
    )
    own = tuple(name for name in PermissionServiceSettings.model_fields if name not in _SECRETS)
    _add_settings(permissions, own, PermissionServiceSettings)

    demo = _command(commands, "demo", _demo, "show a real room: LiveKit, TrackService, publications, a viewer")
    demo.add_argument("--seconds", type=float, help="end after so much flowing media; default: with Ctrl-C")
    demo.add_argument("--livekit-server", metavar="PATH", help="the LiveKit server; default: the one on PATH")
    demo.add_argument("--port", type=int, help="port of TrackService; default: a free one")
    demo.add_argument("--media-workers", type=int, metavar="N", help="media workers; default 1")
    demo.add_argument(
        "--wait-seconds", type=float, metavar="S", help="with --seconds: how long media may take to begin"
    )

    token = _command(commands, "token", _token, "print a LiveKit access token")
    token.add_argument("--room", default="", help="the room that the token is about")
    token.add_argument(
        "--identity",
        default="",
        help="may join the room as this participant; with --list or --create and no --room: name of the service",
    )
    token.add_argument("--admin", action="store_true", help="may act on everybody in the room (roomAdmin)")
    token.add_argument("--list", action="store_true", help="may read every room (roomList)")
    token.add_argument(
        "--create", action="store_true", help="may create rooms, and set what is for all of them (roomCreate)"
    )
    token.add_argument("--record", action="store_true", help="may record (roomRecord)")
    token.add_argument("--ttl", type=_span, default="6h", help="how long it is good, e.g. 90s, 30m, 6h, 2d; default 6h")
    for name, what in (
        ("can-publish", "publish media"),
        ("can-publish-data", "publish data"),
        ("can-subscribe", "receive tracks"),
    ):
        token.add_argument(
            f"--{name}", action=argparse.BooleanOptionalAction, default=True, help=f"the participant may {what}"
        )
    token.add_argument(
        "--can-publish-sources",
        type=_sources,
        metavar="SOURCES",
        help=f"the only sources it may publish, of {', '.join(_SOURCES)}; default: all",
    )

    health = _command(commands, "health", _health, "ask a server how it is; exit status 0: serving, 1: not")
    add_health(health)

    events = _command(commands, "events", _events, "print what happens in rooms, a line an event, until Ctrl-C")
    add_events(events)

    record = _command(commands, "record", _record, "write what is measured in a room into a file, until Ctrl-C")
    add_record(record)

    replay = _command(
        commands, "replay", _replay, "print what a recorded room would have been told, and what adaptation had done"
    )
    add_replay(replay)
    return parser


def _command(commands: Any, name: str, run: Any, what: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    parser.set_defaults(run=run)
    return parser


def _add_settings(
    parser: argparse.ArgumentParser, names: Sequence[str], settings: type[Environment] = Settings
) -> None:
    """A flag for each setting, which overrides the environment; the settings themselves check what is given."""
    group = parser.add_argument_group("settings", "A flag overrides its environment variable.")
    for name in names:
        field = settings.model_fields[name]
        description = (field.description or "").replace("%", "%%")
        if field.is_required():
            description += " Required."
        elif isinstance(field.default, str | int | float | Path) and field.default != "":
            description += f" Default: {field.default}."
        # What a command's own settings have in common goes without saying.
        bare = name if settings is Settings else _OWN.sub("", name)
        flag = f"--{bare.replace('_', '-')}"
        group.add_argument(flag, dest=name, metavar="VALUE", help=f"{settings.variable(name)}. {description}")


def _span(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,9})([smhd]?)", text)
    if match is None or not 0 < int(match[1]) * _UNITS_S[match[2]] <= _LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text!r} is no span such as 90s, 30m, 6h or 2d, up to 3650d")
    return timedelta(seconds=int(match[1]) * _UNITS_S[match[2]])


def _sources(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in _SOURCES]:
        # LiveKit would take it, and refuse everything; of an empty list it would take everything.
        raise argparse.ArgumentTypeError(f"there is no source {unknown[0]!r}; there are {', '.join(_SOURCES)}")
    return names


def _forgive_short_secrets() -> None:
    # `livekit-server --dev` has the secret "secret": PyJWT would complain of it between the lines of the log.
    from jwt.warnings import InsecureKeyLengthWarning

    warnings.filterwarnings("ignore", category=InsecureKeyLengthWarning)


if __name__ == "__main__":
    sys.exit(main())
