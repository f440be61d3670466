import { Track, type LocalTrack } from "livekit-client";
import { Refusal } from "./protocol.js";
import { report } from "./stats.js";

/** For how long a frame that is due is waited for. */
export const FRAME_WAIT_MS = 2_000;

/** Has every layer that is sent begin anew: an encoder that is switched on sends a keyframe. */
export async function keyframe(track: LocalTrack): Promise<void> {
  const count = async () => (await report(track)).streams.reduce((sum, one) => sum + (one.keyFramesEncoded ?? 0), 0);
  const before = await count(), { sender } = track, on = sender?.getParameters().encodings.map((one) => one.active);
  if (!sender || track.kind !== Track.Kind.Video || !(await sends(track))) throw new Refusal("FAILED", "no video is being sent");
  for (const active of [false, true]) {
    const parameters = sender.getParameters();
    parameters.encodings.forEach((one, at) => { if (on?.[at]) one.active = active; });
    await sender.setParameters(parameters);
  }
  if (!(await until(async () => (await count()) > before, FRAME_WAIT_MS))) throw new Refusal("FAILED", "no keyframe was sent in time");
}

/** Whether anything of it was sent since it was published. */
export async function sends(track: LocalTrack): Promise<boolean> {
  return (await report(track)).streams.some((one) => (track.kind === Track.Kind.Video ? one.framesSent : one.packetsSent) > 0);
}

/** Whether it was seen in time, looking every 15 ms. */
export async function until(seen: () => unknown, withinMs: number): Promise<boolean> {
  for (const end = performance.now() + withinMs; performance.now() < end; await new Promise((next) => setTimeout(next, 15)))
    if (await seen()) return true;
  return false;
}
