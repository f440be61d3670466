import { Track, VideoPreset, type TrackPublishOptions, type VideoCodec, type VideoEncoding } from "livekit-client";
import { Refusal, type Layer, type Spec } from "./protocol.js";

const SOURCES: Record<string, Track.Source> = {
  TRACK_SOURCE_CAMERA: Track.Source.Camera, TRACK_SOURCE_MICROPHONE: Track.Source.Microphone,
  TRACK_SOURCE_SCREEN_SHARE: Track.Source.ScreenShare, TRACK_SOURCE_SCREEN_SHARE_AUDIO: Track.Source.ScreenShareAudio,
};

/** How livekit-client is to publish it. Throws Refusal for what it cannot do. */
export function publishOptions(spec: Spec): TrackPublishOptions {
  const { video, audio, name } = spec, source = SOURCES[spec.source ?? ""];
  const options: TrackPublishOptions = { ...(name && { name }), ...(source && { source }) };
  if (audio?.maxBitrateBps) options.audioPreset = { maxBitrate: audio.maxBitrateBps };
  if (audio) Object.assign(options, { dtx: audio.dtx ?? true, red: audio.red ?? !audio.stereo, forceStereo: !!audio.stereo });
  if (!video) return options;
  const codec = (video.codec?.replace("VIDEO_CODEC_", "").toLowerCase() ?? "vp8") as VideoCodec;
  const layers = video.layers ?? [], edge = Math.max(video.width ?? 0, video.height ?? 0);
  if (edge < [0, 0, 480, 960][layers.length]!)
    throw new Refusal("UNSUPPORTED", "livekit-client sends 2 layers from 480 pixels up, and 3 from 960");
  const planned = encodings(spec), kind = source === Track.Source.ScreenShare ? "screenShare" : "video";
  const lower = layers.slice(0, -1).map((one, at) => new VideoPreset({ ...size(one), ...planned[at]! }));
  const preference = degradation(spec), mode = video.scalabilityMode as TrackPublishOptions["scalabilityMode"];
  return {
    ...options, videoCodec: codec,
    backupCodec: false, // what is asked for is sent, and nothing beside it
    simulcast: lower.length > 0 || (edge >= 960 && (video.simulcast ?? /vp8|h264/.test(codec))),
    ...(planned.length && { [`${kind}Encoding`]: planned.at(-1) }),
    ...(lower.length && { [`${kind}SimulcastLayers`]: lower }),
    ...(mode && { scalabilityMode: mode }),
    ...(preference && { degradationPreference: preference }),
  };
}

/** The encodings that the plan names, smallest first; none where it leaves them to the SDK. */
export function encodings({ video }: Spec): VideoEncoding[] {
  return (video?.layers?.length ? video.layers : video?.width ? [video] : []).map((one) => {
    const maxFramerate = one.framesPerSecond || video?.framesPerSecond || 30, { width, height } = size(one);
    return { maxFramerate, maxBitrate: one.maxBitrateBps || Math.round(0.07 * width * height * maxFramerate) };
  });
}

export function degradation({ video }: Spec): RTCDegradationPreference | undefined {
  const name = video?.degradationPreference?.replace("DEGRADATION_PREFERENCE_", "").toLowerCase().replaceAll("_", "-");
  return name as RTCDegradationPreference | undefined;
}

/** What of a plan cannot change on a live track: LiveKit and subscribers keep what they were told when it was published. */
export function fixed({ video, audio, ...rest }: Spec): string {
  const { width, height, codec, simulcast, scalabilityMode } = video ?? {}, { dtx, red, stereo } = audio ?? {};
  return JSON.stringify([rest, video?.layers?.map(size), width, height, codec, simulcast, scalabilityMode, dtx, red, stereo]);
}

/** The processing of a plan's sound, as constraints. */
export function processing({ noiseSuppression, echoCancellation, autoGainControl, stereo }: Spec["audio"] & object): MediaTrackConstraints {
  const given = { noiseSuppression, echoCancellation, autoGainControl, channelCount: stereo ? 2 : undefined };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

function size({ width = 0, height = 0 }: Layer): { width: number; height: number } {
  return { width, height };
}
