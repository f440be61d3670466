import asyncio, time
from tests.servicer.test_quality import *
from tests.servicer.test_inputs import *
from tests.servicer.conftest import *
from livekit import rtc
import pytest
@pytest.mark.parametrize("size",[(480,270),(640,360),(1280,720)])
async def test_sizes(admin, livekit, room, size):
    video = await publish(admin, room, pattern(*size, 15))
    print((await track_of(admin, video)).layers)
    async with viewer(livekit, room) as seen, seen.frames(video.track_sid) as frames:
        remote = await seen.publication_of(video.track_sid)
        for q in (0,1,2):
            remote.set_video_quality(q)
            t=time.time(); got=[]
            while time.time()-t<5:
                _, f = await frames.get(); got.append((f.width,f.height))
            print(size, q, sorted(set(got)), got[-1])
        async with reports(admin, room) as stream:
            n=0
            async for m in stream:
                for r in m.reports:
                    own = sample(r, PUBLISHER)
                    if own: print(round(own.bitrate_bps), [(l.rid,l.width,l.height,round(l.bitrate_bps),l.frames_per_second, l.quality_limitation) for l in own.layers])
                n+=1
                if n>3: break
