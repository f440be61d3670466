"""Where Prometheus reads a program's metrics."""

import contextlib
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, start_http_server

from track_server.config import SettingsError, split_address


@contextlib.contextmanager
def exposing(registry: CollectorRegistry, listen: str, variable: str) -> Iterator[str]:
    """Serves the metrics over HTTP at ``listen``; gives the address that was taken. Nothing, where ``listen`` is "".

    Raises SettingsError, which names ``variable``.
    """
    if not listen:
        yield ""
        return
    host, port = split_address(listen)
    try:
        http, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise SettingsError([f"{variable}: {listen} cannot be bound; is it in use?"]) from error
    try:
        yield f"{host}:{http.server_port}"
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
