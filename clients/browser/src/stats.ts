import type { LocalTrack, Track } from "livekit-client";

type Value = string | number | undefined;
type Stat = Record<string, Value>;

const MESSAGE_BYTES = 14_000; // LiveKit carries 15 KiB

/** The RTP streams of a track, and by id all that is told of it. */
export async function report(track: Track): Promise<{ streams: Stat[]; all: Map<string, Stat> }> {
  const all = new Map<string, Stat>();
  (await track.getRTCStatsReport())?.forEach((stat: Stat & { id: string }) => all.set(stat.id, stat));
  return { streams: [...all.values()].filter((one) => one.type === (track.isLocal ? "outbound-rtp" : "inbound-rtp")), all };
}

/** What those may send together, in bits per second; infinite where one of them has no bound. */
export function mostBps(tracks: Iterable<LocalTrack | undefined>): number {
  const encodings = [...tracks].flatMap((track) => track?.sender?.getParameters().encodings ?? []);
  return encodings.reduce((sum, { active, maxBitrate }) => sum + (active === false ? 0 : (maxBitrate ?? Infinity)), 0);
}

/** A TrackStats; `most`: what all that is sent may take, in bits per second. Without streams where nothing goes, or has come. */
export async function statsOf(track: Track, trackSid: string, most: number): Promise<{ streams: object[] }> {
  const { streams, all } = await report(track), sent = track.isLocal, pair = usedPair(all);
  const measureTime = time(streams[0]?.timestamp ?? Date.now()), spare = Number(pair?.availableOutgoingBitrate) >= most;
  const told = streams.map((one) => (sent ? outbound(one, all, spare) : inbound(one, roundTrip(pair))));
  return Object.assign({ trackSid, sent, measureTime }, { streams: told });
}

/** Those that have streams, as StateReports that LiveKit carries. */
export function messages(found: { streams: object[] }[]): string[] {
  const parts: string[][] = [];
  let size = Infinity;
  for (const text of found.filter((one) => one.streams.length).map((one) => JSON.stringify(one))) {
    if (size + text.length > MESSAGE_BYTES) size = parts.push([]) && 0;
    size += text.length;
    parts.at(-1)!.push(text);
  }
  return parts.map((part) => `{"stats":[${part.join(",")}]}`);
}

function stream({ ssrc, rid, framesPerSecond, frameWidth, frameHeight, nackCount }: Stat): object {
  return { ssrc, rid, framesPerSecond: number(framesPerSecond), frameWidth, frameHeight, nackCount: whole(nackCount) };
}

/** `spare`: the network has room for all that may be sent. Then it is not bandwidth that holds the encoder back. */
function outbound(one: Stat, all: Map<string, Stat>, spare: boolean): object {
  const far = all.get(String(one.remoteId)), reason = String(one.qualityLimitationReason ?? "").toUpperCase();
  const limit = spare && reason === "BANDWIDTH" ? "OTHER" : reason;
  return {
    ...stream(one),
    packets: whole(one.packetsSent), bytes: whole(one.bytesSent), frames: whole(one.framesSent),
    retransmittedPackets: whole(one.retransmittedPacketsSent), retransmittedBytes: whole(one.retransmittedBytesSent),
    packetsLost: whole(far?.packetsLost), jitterMs: ms(far?.jitter), rttMs: ms(far?.roundTripTime), remoteTime: time(far?.timestamp),
    qualityLimitation: limit ? `QUALITY_LIMITATION_${limit}` : undefined,
    audioLevel: number(all.get(String(one.mediaSourceId))?.audioLevel),
  };
}

function inbound(one: Stat, rttMs: number | undefined): object {
  const none = one.rtxSsrc === undefined ? undefined : 0; // Chromium tells of retransmissions from the first one on
  return {
    ...stream(one), rttMs,
    packets: whole(one.packetsReceived), bytes: whole(one.bytesReceived), frames: whole(one.framesDecoded),
    retransmittedPackets: whole(one.retransmittedPacketsReceived ?? none), retransmittedBytes: whole(one.retransmittedBytesReceived ?? none),
    packetsLost: whole(one.packetsLost), jitterMs: ms(one.jitter),
    freezeCount: one.freezeCount, totalFreezesDuration: span(one.totalFreezesDuration),
    concealedSamples: whole(one.concealedSamples), silentConcealedSamples: whole(one.silentConcealedSamples),
    totalSamplesReceived: whole(one.totalSamplesReceived),
    jitterBufferDelay: span(one.jitterBufferDelay), jitterBufferEmittedCount: whole(one.jitterBufferEmittedCount),
    lastPacketTime: time(one.lastPacketReceivedTimestamp), audioLevel: number(one.audioLevel),
  };
}

/** The candidate pair that is in use. */
function usedPair(all: Map<string, Stat>): Stat | undefined {
  const pairs = [...all.values()], transport = pairs.find((one) => one.type === "transport" && one.selectedCandidatePairId);
  return all.get(String(transport?.selectedCandidatePairId)) ?? pairs.find((one) => one.type === "candidate-pair" && one.nominated);
}

/** In milliseconds. 0 is true of a short way, and is what some tell before the first answer. */
function roundTrip(pair: Stat | undefined): number | undefined {
  const { currentRoundTripTime: seconds, responsesReceived = 0 } = pair ?? {};
  return Number(seconds) > 0 || Number(responsesReceived) > 0 ? ms(seconds) : undefined;
}

/** What is a number; JSON has no word for others. */
function number(value: Value): number | undefined {
  return Number.isFinite(value) ? Number(value) : undefined;
}

/** 64-bit numbers are strings in proto JSON. */
function whole(value: Value): string | undefined {
  return Number.isFinite(value) ? String(value) : undefined;
}

function ms(seconds: Value): number | undefined {
  return Number.isFinite(seconds) ? Number(seconds) * 1000 : undefined;
}

function span(seconds: Value): string | undefined {
  return Number.isFinite(seconds) ? `${Number(seconds).toFixed(6)}s` : undefined;
}

/** Of milliseconds since 1970. */
function time(at: Value): string | undefined {
  return Number.isFinite(at) ? new Date(Number(at)).toISOString() : undefined;
}
