import { version as sdkVersion, type Room } from "livekit-client";
import type { AppSources } from "./tracks.js";
import { ACTIONS } from "./trust.js";

const VERSION = "0.1.0";
const CODECS = ["vp8", "h264", "vp9", "av1", "opus"];
const SIZES = [[3840, 2160], [2560, 1440], [1920, 1080], [1280, 720], [640, 360]] as const;

/** A Capabilities, good until devices change: asking the browser takes longer than the call that asks. */
export async function capabilities(room: Room, sources: AppSources, signed: boolean): Promise<object> {
  const { mediaDevices } = navigator, shares = Boolean(mediaDevices && "getDisplayMedia" in mediaDevices);
  const kinds = (await mediaDevices?.enumerateDevices().catch(() => []))?.map((device) => device.kind) ?? [];
  const video = Object.keys(sources.video), audio = Object.keys(sources.audio);
  const devices = {
    CAMERA: kinds.includes("videoinput"), MICROPHONE: kinds.includes("audioinput"), SCREEN: shares, SCREEN_AUDIO: shares,
    APP_VIDEO: video.length > 0, APP_AUDIO: audio.length > 0,
  };
  return {
    companion: `browser/${VERSION}`, sdk: `livekit-client/${sdkVersion}`, signed, ...(await decoding()),
    sendCodecs: codecs(RTCRtpSender),
    screenWidth: Math.round(screen.width * devicePixelRatio), screenHeight: Math.round(screen.height * devicePixelRatio),
    adaptiveStream: Boolean(room.options.adaptiveStream), dynacast: Boolean(room.options.dynacast),
    actions: ACTIONS.map(snake), appSources: [...new Set([...video, ...audio])],
    devices: Object.entries(devices).filter(([, has]) => has).map(([kind]) => `DEVICE_KIND_${kind}`),
  };
}

/** The codecs that it receives, and the largest picture that some codec decodes smoothly at 30 frames per second, where that can be told. */
export async function decoding(): Promise<object> {
  const receiveCodecs = codecs(RTCRtpReceiver);
  for (const [width, height] of SIZES)
    for (const codec of CODECS.slice(0, -1)) {
      const video = { contentType: `video/${codec}`, width, height, bitrate: Math.round(2.1 * width * height), framerate: 30 };
      const info = await navigator.mediaCapabilities?.decodingInfo({ type: "webrtc", video }).catch(() => undefined);
      if (info?.supported && info.smooth) return { receiveCodecs, maxDecodeWidth: width, maxDecodeHeight: height };
    }
  return { receiveCodecs };
}

/** `set_muted` of `setMuted`. */
export function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function codecs(of: typeof RTCRtpSender | typeof RTCRtpReceiver): string[] {
  const known = [...(of.getCapabilities("video")?.codecs ?? []), ...(of.getCapabilities("audio")?.codecs ?? [])];
  return CODECS.filter((name) => known.some((codec) => codec.mimeType.toLowerCase().endsWith(`/${name}`)));
}
