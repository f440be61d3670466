import sys
import uvloop
from track_server.config import Settings
from track_server.logs import configure_logging


def main() -> None:
    settings = Settings.load({})
    events = configure_logging(level=settings.log_level, json=settings.log_format == "json")
    if sys.argv[1] == "serve":
        from track_server.server import serve

        uvloop.run(serve(settings, events))
    else:
        from track_server.media.settings import MediaSettings
        from track_server.media.worker import run_worker

        run_worker(
            MediaSettings(
                url=settings.livekit_ws_url,
                api_key=settings.livekit_api_key,
                api_secret=settings.livekit_api_secret.get_secret_value(),
                max_sessions=settings.worker_max_sessions,
                sessions_per_child=settings.worker_sessions_per_child,
                media_dir=settings.media_dir,
                url_hosts=tuple(settings.media_url_hosts),
            ),
            supervised="--supervised" in sys.argv,
        )


if __name__ == "__main__":
    main()
