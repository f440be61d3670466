import type { LocalTrack, Track } from "livekit-client";

/** An entry of getStats. JSON leaves out what it does not tell, and says null, which counts as absent, of what is no number. */
type Stat = Record<string, any>;

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
  const measureTime = time(streams[0]?.timestamp ?? Date.now()), spare = pair?.availableOutgoingBitrate >= most;
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
  return { ssrc, rid, framesPerSecond, frameWidth, frameHeight, nackCount };
}

/** `spare`: the network has room for all that may be sent. Then it is not bandwidth that holds the encoder back. */
function outbound(one: Stat, all: Map<string, Stat>, spare: boolean): object {
  const far = all.get(one.remoteId), reason = (one.qualityLimitationReason ?? "").toUpperCase();
  const limit = spare && reason === "BANDWIDTH" ? "OTHER" : reason;
  return {
    ...stream(one),
    packets: one.packetsSent, bytes: one.bytesSent, frames: one.framesSent,
    retransmittedPackets: one.retransmittedPacketsSent, retransmittedBytes: one.retransmittedBytesSent,
    packetsLost: far?.packetsLost, jitterMs: ms(far?.jitter), rttMs: ms(far?.roundTripTime), remoteTime: time(far?.timestamp),
    qualityLimitation: limit ? `QUALITY_LIMITATION_${limit}` : undefined,
    audioLevel: all.get(one.mediaSourceId)?.audioLevel,
  };
}

function inbound(one: Stat, rttMs: number | undefined): object {
  const none = one.rtxSsrc === undefined ? undefined : 0; // Chromium tells of retransmissions from the first one on
  return {
    ...stream(one), rttMs,
    packets: one.packetsReceived, bytes: one.bytesReceived, frames: one.framesDecoded,
    retransmittedPackets: one.retransmittedPacketsReceived ?? none, retransmittedBytes: one.retransmittedBytesReceived ?? none,
    packetsLost: one.packetsLost, jitterMs: ms(one.jitter),
    freezeCount: one.freezeCount, totalFreezesDuration: span(one.totalFreezesDuration),
    concealedSamples: one.concealedSamples, silentConcealedSamples: one.silentConcealedSamples,
    totalSamplesReceived: one.totalSamplesReceived,
    jitterBufferDelay: span(one.jitterBufferDelay), jitterBufferEmittedCount: one.jitterBufferEmittedCount,
    lastPacketTime: time(one.lastPacketReceivedTimestamp), audioLevel: one.audioLevel,
  };
}

/** The candidate pair that is in use. */
function usedPair(all: Map<string, Stat>): Stat | undefined {
  const pairs = [...all.values()], transport = pairs.find((one) => one.type === "transport" && one.selectedCandidatePairId);
  return all.get(transport?.selectedCandidatePairId) ?? pairs.find((one) => one.type === "candidate-pair" && one.nominated);
}

/** In milliseconds. 0 is true of a short way, and is what some tell before the first answer. */
function roundTrip(pair: Stat | undefined): number | undefined {
  const { currentRoundTripTime: seconds, responsesReceived = 0 } = pair ?? {};
  return seconds > 0 || responsesReceived > 0 ? ms(seconds) : undefined;
}

function ms(seconds: number | undefined): number | undefined {
  return seconds && seconds * 1000;
}

/** A Duration. */
function span(seconds: number | undefined): string | undefined {
  return Number.isFinite(seconds) ? `${seconds!.toFixed(6)}s` : undefined;
}

/** A Timestamp, of milliseconds since 1970. */
function time(at: number | undefined): Date | undefined {
  return at === undefined ? undefined : new Date(at);
}
