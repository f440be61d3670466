"""What Chromium publishes, pulled by a caller of the service."""

import numpy as np

from tests.clients.browser.app import App
from tests.clients.browser.plans import camera, device
from tests.publications import until_listed
from tests.servicer.pulls import pulling as pull
from tests.servicer.pulls.pulling import MATROSKA
from tests.track_process import Client
from track.v1 import publication_pb2 as pb
from track.v1 import track_pb2


async def test_picture_and_sound_of_a_browser_are_pulled_into_one_file(admin: Client, alice: App, room: str) -> None:
    await alice.attach()
    plan = camera(width=640, height=360, frames_per_second=15)
    plan.spec.video.degradation_preference = pb.DEGRADATION_PREFERENCE_MAINTAIN_RESOLUTION
    seen = (await alice.done(plan)).track_sid
    microphone = device(pb.DEVICE_KIND_MICROPHONE, track_pb2.TRACK_SOURCE_MICROPHONE)
    microphone.publication_id = "PUB_2"
    heard = (await alice.done(microphone)).track_sid
    await until_listed(admin, room, seen, heard)
    # The fake microphone beeps twice a second.
    got = await pull.pulled(admin, room, 3, track_sid=seen, audio_track_sid=heard, container=MATROSKA)
    found = pull.contents(got.data)
    assert found.codecs == {"video": "vp8", "audio": "opus"}
    assert {(picture.width, picture.height) for picture in found.pictures} == {(640, 360)}
    assert found.seconds["video"] > 1.5
    assert found.seconds["audio"] > 2.5
    assert np.abs(found.sound).max() > 0.02
    # The fake camera moves: pictures differ.
    first, last = (picture.to_ndarray(format="gray").astype(int) for picture in (found.pictures[0], found.pictures[-1]))
    assert np.abs(first - last).max() > 50
