"""What of a publication is used and shown to nobody, apart from what is shown to whoever reads the room. Pure."""

from track.v1.publication_pb2 import Publication
from track_server.texts import public_uri


def shown(publication: Publication) -> Publication:
    """It without its secrets: keys, and of URLs user, query and fragment, which may be a signature."""
    if not secrets_of(publication).ByteSize():
        return publication
    result = Publication()
    result.CopyFrom(publication)
    if result.spec.HasField("file"):
        result.spec.file.uri = _public(result.spec.file.uri)
    if result.spec.HasField("ingress"):
        result.spec.ingress.url = _public(result.spec.ingress.url)
    if result.spec.HasField("encryption"):
        result.spec.encryption.shared_key = b""
    if result.HasField("ingress"):
        result.ingress.stream_key = ""
    return result


def secrets_of(publication: Publication) -> Publication:
    """The secrets alone; empty where there are none."""
    spec, secrets = publication.spec, Publication()
    if spec.file.uri != _public(spec.file.uri):
        secrets.spec.file.uri = spec.file.uri
    if spec.ingress.url != _public(spec.ingress.url):
        secrets.spec.ingress.url = spec.ingress.url
    if spec.encryption.shared_key:
        secrets.spec.encryption.shared_key = spec.encryption.shared_key
    if publication.ingress.stream_key:
        secrets.ingress.stream_key = publication.ingress.stream_key
    return secrets


def with_secrets(publication: Publication, secrets: Publication) -> Publication:
    """What was shown with what was kept apart; a URL that has changed since is left alone."""
    spec, kept = publication.spec, secrets.spec
    result = Publication()
    result.CopyFrom(publication)
    if kept.file.uri and spec.file.uri == _public(kept.file.uri):
        result.spec.file.uri = kept.file.uri
    if kept.ingress.url and spec.ingress.url == _public(kept.ingress.url):
        result.spec.ingress.url = kept.ingress.url
    if spec.HasField("encryption") and not spec.encryption.shared_key:
        result.spec.encryption.shared_key = kept.encryption.shared_key
    if publication.HasField("ingress") and not publication.ingress.stream_key:
        result.ingress.stream_key = secrets.ingress.stream_key
    return result


def with_stream_key(publication: Publication, whole: Publication) -> Publication:
    """What was shown with, of its secrets, the key of its ingress alone."""
    if not whole.ingress.stream_key:
        return publication
    result = Publication()
    result.CopyFrom(publication)
    result.ingress.stream_key = whole.ingress.stream_key
    return result


def _public(uri: str) -> str:
    return public_uri(uri) if "://" in uri else uri
