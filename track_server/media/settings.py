"""Settings of the media worker."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class MediaSettings:
    """What a media worker is told by whoever starts it.

    `url`, `api_key`, `api_secret`: LiveKit. `keys_file`: whose keys may take that one's place (`KeyRing`), None
    for none. `max_sessions`: sessions at once, over all its child processes.
    `sessions_per_child`: sessions at once in one child. `sessions_before_recycling`: a child that has served so many is
    replaced once it is empty. `media_dir`: folder of the files that may be published, None for none. `url_hosts`: hosts
    of URLs that may be published, as `mediafile.resolve` takes them. `orphan_timeout_s`: a session whose server is away
    for so long leaves its room. `log_level`, `log_json`: how child processes log (`logs.configure_logging`).
    """

    url: str
    api_key: str
    api_secret: str
    keys_file: Path | None = None
    agent_name: str = "track-media"
    max_sessions: int = 50
    sessions_per_child: int = 8
    sessions_before_recycling: int = 200
    media_dir: Path | None = None
    url_hosts: tuple[str, ...] = ()
    orphan_timeout_s: float = 60.0
    log_level: str = "info"
    log_json: bool = True
