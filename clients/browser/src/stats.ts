import type { Track } from "livekit-client";

type Stat = Record<string, string | number | undefined>;

/** The RTP streams of a track, and by id all that is told of it. */
export async function report(track: Track): Promise<{ streams: Stat[]; all: Map<string, Stat> }> {
  const all = new Map<string, Stat>();
  (await track.getRTCStatsReport())?.forEach((stat: Stat & { id: string }) => all.set(stat.id, stat));
  return { streams: [...all.values()].filter((one) => one.type === (track.isLocal ? "outbound-rtp" : "inbound-rtp")), all };
}

/** A ClientTrackStats. */
export async function statsOf(track: Track, trackSid: string): Promise<object> {
  const { streams, all } = await report(track), sent = track.isLocal;
  const measureTime = new Date().toISOString();
  return { trackSid, sent, measureTime, streams: streams.map((one) => stream(one, sent, sent ? all.get(String(one.remoteId)) : one)) };
}

function stream(one: Stat, sent: boolean, far: Stat | undefined): object {
  const { ssrc, rid, framesPerSecond, frameWidth, frameHeight, freezeCount, totalFreezesDuration: frozen } = one;
  const limit = String(one.qualityLimitationReason ?? "").toUpperCase();
  return {
    ssrc, rid, framesPerSecond, frameWidth, frameHeight, freezeCount,
    packets: whole(sent ? one.packetsSent : one.packetsReceived),
    bytes: whole(sent ? one.bytesSent : one.bytesReceived),
    frames: whole(sent ? one.framesSent : one.framesDecoded),
    packetsLost: whole(far?.packetsLost),
    jitterMs: ms(far?.jitter),
    rttMs: sent ? ms(far?.roundTripTime) : undefined,
    qualityLimitation: limit ? `QUALITY_LIMITATION_${limit}` : undefined,
    totalFreezesDuration: frozen === undefined ? undefined : `${Number(frozen).toFixed(3)}s`,
  };
}

/** 64-bit numbers are strings in proto JSON. */
function whole(value: string | number | undefined): string | undefined {
  return value === undefined ? undefined : String(value);
}

function ms(seconds: string | number | undefined): number | undefined {
  return seconds === undefined ? undefined : Number(seconds) * 1000;
}
