"""What is kept of a request: never a secret, never a payload."""

import json

import pytest
from google.protobuf import duration_pb2, json_format, struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from track.v1 import (
    audit_pb2,
    egress_pb2,
    publication_pb2,
    pull_pb2,
    subscription_permission_pb2,
    token_pb2,
    tracks_pb2,
    webhook_pb2,
)
from track_server.audit.redaction import MAX_JSON_BYTES, redacted

Request = publication_pb2.PublishTrackRequest
Spec = publication_pb2.PublicationSpec

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJBUEkifQ.c2lnbmF0dXJl"


def of_uri(uri: str) -> str:
    fields, _ = redacted(Request(spec=Spec(file=publication_pb2.FileInput(uri=uri))))
    kept: str = fields["spec"]["file"]["uri"]
    return kept


def test_a_request_is_kept_by_the_names_and_words_of_the_contract() -> None:
    metadata = struct_pb2.Struct()
    metadata.update({"role": "stage", "tags": ["a", {"deep": None}], "rank": 2.5, "on": True})
    spec = Spec(
        test_pattern=publication_pb2.TestPatternInput(),
        video=publication_pb2.VideoOptions(width=640, codec=publication_pb2.VIDEO_CODEC_H264),
        name="stage",
        metadata=metadata,
    )
    fields, truncated = redacted(Request(room="demo", spec=spec, request_id="one", validate_only=True))
    assert not truncated
    assert fields == {
        "room": "demo",
        "request_id": "one",
        "validate_only": True,
        "spec": {
            "test_pattern": {},
            "video": {"width": 640, "codec": "VIDEO_CODEC_H264"},
            "name": "stage",
            "metadata": {"role": "stage", "tags": ["a", {"deep": None}], "rank": 2.5, "on": True},
        },
    }


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        ("clip.mkv", "clip.mkv"),
        ("folder/clip@2.mkv", "folder/clip@2.mkv"),
        ("clip.mkv?key=secret", "clip.mkv"),
        ("https://example.org/clip.mp4", "https://example.org/clip.mp4"),
        ("https://example.org:8443/a/clip.mp4?token=secret#t=secret", "https://example.org:8443/a/clip.mp4"),
        ("https://user:secret@example.org/clip.mp4", "https://example.org/clip.mp4"),
        ("https://secret@example.org/clip.mp4", "https://example.org/clip.mp4"),
        ("https://us@er:sec@ret@example.org/clip.mp4", "https://example.org/clip.mp4"),
        ("https://user:sec/ret@example.org/clip.mp4", "https://"),
        ("https://user:secret?more@example.org/clip.mp4", "https://"),
        ("https://secret?more@example.org", "https://"),
        ("https://example.org/clip.mp4?user=a@example.org", "https://example.org/clip.mp4"),
        ("http:user:secret@example.org", ""),
        ("http:\\\\user:secret@example.org", ""),
        (f"https://example.org/{JWT}/clip.mp4", "https://example.org//clip.mp4"),
    ],
)
def test_of_a_uri_neither_user_nor_query_is_kept(uri: str, kept: str) -> None:
    assert of_uri(uri) == kept


def test_of_a_recording_and_a_webhook_no_secret_is_kept() -> None:
    url = "wss://user:hidden@example.org/in?key=hidden#hidden"
    to_socket = egress_pb2.StartTrackEgressRequest(output=egress_pb2.EgressOutput(websocket_url=url))
    s3 = egress_pb2.S3Storage(
        bucket="b",
        endpoint="https://user:hidden@s3.example.org/?hidden",
        access_key="hidden",
        secret="hidden",
        session_token="hidden",
    )
    gcs = egress_pb2.GcsStorage(bucket="b", credentials='{"private_key": "hidden"}')
    azure = egress_pb2.AzureStorage(container="c", account_name="n", account_key="hidden")
    files = [egress_pb2.EgressFile(filepath="f", **storage) for storage in ({"s3": s3}, {"gcs": gcs}, {"azure": azure})]
    rules = [
        egress_pb2.SetEgressRuleRequest(rule=egress_pb2.EgressRule(output=egress_pb2.EgressOutput(file=file)))
        for file in files
    ]
    hook = webhook_pb2.CreateWebhookSubscriptionRequest(url="https://user:hidden@example.org/in?key=hidden")
    pull = pull_pb2.PullMediaRequest(encryption_key=b"hidden")
    kept = [redacted(request)[0] for request in (to_socket, *rules, hook, pull)]
    assert "hidden" not in json.dumps(kept)
    assert kept[0]["output"] == {"websocket_url": "wss://example.org/in"}
    assert kept[1]["rule"]["output"]["file"]["s3"] == {
        "bucket": "b",
        "endpoint": "https://s3.example.org/",
    }
    assert kept[4] == {"url": "https://example.org/in"}


def test_tokens_are_kept_under_no_name() -> None:
    asked = audit_pb2.ListAuditEntriesRequest(
        room="demo", page_token="position", filter=f"entry.peer == '{JWT}' || 'https://u:secret@h/?k=secret' == ''"
    )
    fields, _ = redacted(asked)
    assert fields == {"room": "demo", "filter": "entry.peer == '' || 'https://h/' == ''"}
    answer = token_pb2.CreateTrackTokenResponse(token=JWT, participant_identity="alice")
    assert redacted(answer)[0] == {"participant_identity": "alice"}
    update = tracks_pb2.UpdateSubscriptionsRequest(room="demo", consistency_token="x")
    assert redacted(update)[0] == {"room": "demo"}


def test_spans_and_maps_are_kept_as_json_has_them() -> None:
    asked = token_pb2.CreateTrackTokenRequest(room="demo", ttl=duration_pb2.Duration(seconds=90))
    assert redacted(asked)[0]["ttl"] == "90s"
    beyond = token_pb2.CreateTrackTokenRequest(ttl=duration_pb2.Duration(seconds=2**62))
    assert redacted(beyond)[0]["ttl"] == ""


def test_of_a_large_request_the_scalar_fields_are_kept_and_it_is_said() -> None:
    names = [f"participant-{n:04}" for n in range(1000)]
    asked = subscription_permission_pb2.SetTrackSubscriptionPermissionsRequest(
        room="demo",
        track_sid="TR_a",
        rule=subscription_permission_pb2.TrackSubscriptionRule(participant_identities=names),
        validate_only=True,
    )
    assert redacted(asked) == ({"room": "demo", "track_sid": "TR_a", "validate_only": True}, True)
    fields, truncated = redacted(audit_pb2.ListAuditEntriesRequest(room="demo", filter="ä" * 5000))
    assert truncated
    assert len(fields["filter"]) < 300


SECRET = st.from_regex(r"s3cr3t[a-z]{8}", fullmatch=True)
TEXT = st.text(max_size=20)


@st.composite
def publishing(draw: st.DrawFn) -> tuple[publication_pb2.PublishTrackRequest, list[str]]:
    """A request with secrets in every place that may have one, and the secrets."""
    secrets = [draw(SECRET) for _ in range(6)]
    user, password, query, payload, token, header = secrets
    jwt = f"eyJ{header}.{token}.{token}"
    spec = Spec(name=draw(TEXT))
    source = draw(st.sampled_from(["file", "data", "tone"]))
    if source == "file":
        scheme, host, path = (
            draw(st.sampled_from(["http", "https", "rtsp"])),
            draw(st.sampled_from(["h", "[::1]:5"])),
            draw(TEXT),
        )
        spec.file.uri = f"{scheme}://{user}:{password}@{host}/{path}?{draw(TEXT)}={query}{draw(TEXT)}"
    elif source == "data":
        spec.data.payload = payload.encode() + draw(st.binary(max_size=50))
    else:
        spec.tone.frequency_hz = draw(st.floats())
    link = f"{draw(TEXT)} http://{user}:{password}@host/?{query} {jwt}"
    value = struct_pb2.Value(number_value=draw(st.floats()))
    spec.metadata.fields["number"].CopyFrom(value)
    spec.metadata.fields["list"].list_value.values.add().string_value = link
    spec.metadata.fields["size"].string_value = "x" * draw(st.sampled_from([0, 10_000]))
    return Request(room=draw(TEXT), participant_identity=draw(TEXT), spec=spec, request_id=jwt), secrets


@given(publishing())
def test_no_secret_of_any_request_is_kept_and_what_is_kept_is_a_struct_of_bounded_size(
    case: tuple[publication_pb2.PublishTrackRequest, list[str]],
) -> None:
    request, secrets = case
    fields, truncated = redacted(request)
    text = json.dumps(fields, ensure_ascii=False)
    assert not [secret for secret in secrets if secret in text]
    assert len(text.encode()) <= MAX_JSON_BYTES
    assert truncated == (len(request.spec.metadata.fields["size"].string_value) > 0)
    struct = struct_pb2.Struct()
    struct.update(fields)
    assert json_format.MessageToDict(audit_pb2.AuditEntry(request=struct)) is not None


@given(st.text())
def test_any_text_as_a_uri_is_kept_without_what_follows_a_question_mark(uri: str) -> None:
    assert "?" not in of_uri(uri or "x")
    assert "#" not in of_uri(uri or "x")


def test_a_request_that_is_too_deep_for_an_entry_is_cut() -> None:
    for depth in range(40):
        request = Request(room="demo")
        inner = request.spec.metadata
        for _ in range(depth):
            inner = inner.fields["a"].struct_value
        inner.fields["a"].bool_value = True
        fields, truncated = redacted(request)
        assert truncated == (depth > 21)
        page = audit_pb2.ListAuditEntriesResponse(entries=[audit_pb2.AuditEntry()])
        page.entries[0].request.update(fields)
        # Else nobody could read the record any more.
        assert audit_pb2.ListAuditEntriesResponse.FromString(page.SerializeToString()) == page
