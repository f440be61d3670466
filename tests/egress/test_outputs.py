"""Places of recordings: what the operator allows, what is shown, and which are the same."""

import pytest

from track.v1.egress_pb2 import AzureStorage, EgressFile, EgressOutput, GcsStorage, S3Storage
from track_server.egress.outputs import Places, at_path, place_of, shown
from track_server.errors import DestinationNotAllowed, InvalidField, InvalidOptions, TrackError

S3 = "output.file.s3"
AZURE = "output.file.azure"
PLACES = Places(
    frozenset({"recordings/"}),
    frozenset({"s3:tapes", "s3:minio.example:9000/tapes", "gcs:tapes", "azure:acme/tapes", "azure:own"}),
    frozenset({"ears.example", "ears.example:8443", "ws://ears.example:8080"}),
)


def file(path: str = "a.ogg", **storage: S3Storage | GcsStorage | AzureStorage) -> EgressOutput:
    return EgressOutput(file=EgressFile(filepath=path, **storage))  # type: ignore[arg-type]  # each is of its own type


def s3(endpoint: str) -> EgressOutput:
    return file(s3=S3Storage(bucket="tapes", endpoint=endpoint))


def azure(container: str, account: str = "", key: str = "") -> EgressOutput:
    return file(azure=AzureStorage(container=container, account_name=account, account_key=key))


def socket(url: str) -> EgressOutput:
    return EgressOutput(websocket_url=url)


@pytest.mark.parametrize(
    "output",
    [
        file("recordings/a.ogg"),
        file(s3=S3Storage(bucket="tapes")),
        file(s3=S3Storage(bucket="tapes", region="eu-central-1", access_key="a", secret="b")),
        file(s3=S3Storage(bucket="tapes", endpoint="https://MINIO.example:9000/")),
        file(gcs=GcsStorage(bucket="tapes")),
        azure("tapes", "acme", "k"),
        azure("own"),
        socket("wss://ears.example/in?token=x"),
        socket("wss://ears.example:8443"),
        socket("ws://ears.example:8080/"),
    ],
)
def test_what_the_operator_names_is_allowed(output: EgressOutput) -> None:
    PLACES.check(output)


@pytest.mark.parametrize(
    ("output", "error", "field"),
    [
        (file(), DestinationNotAllowed, "output.file.filepath"),
        (file("/recordings/a"), DestinationNotAllowed, "output.file.filepath"),
        (file("recordings/../a"), InvalidField, "output.file.filepath"),
        (file("/a", s3=S3Storage(bucket="tapes")), InvalidField, "output.file.filepath"),
        (file(s3=S3Storage(bucket="other")), DestinationNotAllowed, f"{S3}.bucket"),
        (file(s3=S3Storage(bucket="minio.example:9000/tapes")), DestinationNotAllowed, f"{S3}.bucket"),
        (file(s3=S3Storage(bucket="tapes", region="cn-north-1")), DestinationNotAllowed, f"{S3}.bucket"),
        (file(s3=S3Storage(bucket="tapes", region="x.evil.example/")), InvalidField, f"{S3}.region"),
        (file(s3=S3Storage(bucket="tapes", access_key="a")), InvalidOptions, f"{S3}.secret"),
        (s3("https://evil.example"), DestinationNotAllowed, f"{S3}.bucket"),
        (s3("https://minio.example"), DestinationNotAllowed, f"{S3}.bucket"),
        (s3("https://minio.example:9000@evil.example"), InvalidField, f"{S3}.endpoint"),
        (s3("https://minio.example:9000/x"), InvalidField, f"{S3}.endpoint"),
        (s3("https://minio.example:99999"), InvalidField, f"{S3}.endpoint"),
        (s3("file:///etc"), InvalidField, f"{S3}.endpoint"),
        (s3("https://evil.example\\@minio.example:9000"), InvalidField, f"{S3}.endpoint"),
        (file(gcs=GcsStorage(bucket="other")), DestinationNotAllowed, "output.file.gcs.bucket"),
        (azure("acme/tapes"), DestinationNotAllowed, f"{AZURE}.container"),
        (azure("tapes", "a/acme", "k"), InvalidField, f"{AZURE}.account_name"),
        (azure("tapes"), DestinationNotAllowed, f"{AZURE}.container"),
        (azure("tapes", "evil", "k"), DestinationNotAllowed, f"{AZURE}.container"),
        (azure("own", "evil"), InvalidOptions, f"{AZURE}.account_key"),
        (socket("wss://evil.example"), DestinationNotAllowed, "output.websocket_url"),
        (socket("wss://ears.example:444"), DestinationNotAllowed, "output.websocket_url"),
        (socket("ws://ears.example"), DestinationNotAllowed, "output.websocket_url"),
        (socket("wss://ears.example@evil.example"), DestinationNotAllowed, "output.websocket_url"),
        (socket("wss://evil.example\\@ears.example"), InvalidField, "output.websocket_url"),
        (socket("https://ears.example"), InvalidField, "output.websocket_url"),
        (socket("wss://ears.example:x"), InvalidField, "output.websocket_url"),
        (socket("ears.example"), InvalidField, "output.websocket_url"),
    ],
)  # fmt: skip
def test_everything_else_is_refused_by_its_field(output: EgressOutput, error: type[TrackError], field: str) -> None:
    with pytest.raises(error) as caught:
        PLACES.check(output)
    assert caught.value.field == field
    with pytest.raises(error) as caught:
        PLACES.check(output, "rule.")
    assert caught.value.field == f"rule.{field}"


def test_without_settings_nothing_but_the_folders_is_allowed() -> None:
    nothing = Places(frozenset({"recordings/"}), frozenset(), frozenset())
    nothing.check(file("recordings/a"))
    for output in (file(s3=S3Storage(bucket="tapes")), azure("own"), socket("wss://a")):
        with pytest.raises(DestinationNotAllowed):
            nothing.check(output)


def test_secrets_are_not_shown() -> None:
    outputs = [
        file(s3=S3Storage(bucket="tapes", access_key="SECRET", secret="SECRET", session_token="SECRET")),
        file(gcs=GcsStorage(bucket="tapes", credentials="SECRET")),
        azure("tapes", "acme", "SECRET"),
        socket("wss://SECRET:SECRET@ears.example/in?token=SECRET#SECRET"),
    ]
    for output in outputs:
        before = output.SerializeToString()
        assert "SECRET" not in str(shown(output))
        assert output.SerializeToString() == before
    assert shown(outputs[3]).websocket_url == "wss://ears.example/in"


def test_places_differ_where_nothing_is_written_over() -> None:
    places = [
        place_of(at_path(output, "a"), "a")
        for output in (
            file(), file(s3=S3Storage(bucket="a")), file(s3=S3Storage(bucket="b")), file(gcs=GcsStorage(bucket="a")),
            file(s3=S3Storage(bucket="a", endpoint="https://b")), azure("a"),
        )
    ]  # fmt: skip
    assert len(set(places)) == len(places)
    assert place_of(file(), "a") != place_of(file(), "b")
    assert place_of(file(), "a") == place_of(file("b"), "a")
    minio = [s3("https://minio.example:9000"), s3("https://MINIO.example:9000/")]
    assert len({place_of(output, "a") for output in minio}) == 1
