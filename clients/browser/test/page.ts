/** A page of an app with the companion; the tests call `harness` in it. */
import { Room, RoomEvent, type RemoteTrackPublication, type RoomConnectOptions, type RoomOptions, type Track } from "livekit-client";
import { attachTrackControl, type AppState, type TrackControl, type TrackControlOptions } from "../src/index.js";
import { statsOf } from "../src/stats.js";

interface Asked {
  action: string;
  restored: boolean;
  answer: (granted: boolean) => void;
}

let room = new Room();
let control: TrackControl | undefined;
let timer: ReturnType<typeof setInterval> | undefined;
const asked: Asked[] = [];
const warnings: string[] = [];
const vetoed = new Set<string>();
let vetoes = 0;
let told: AppState = {};
let opened = 0;
const films: MediaStreamTrack[] = [];
const getUserMedia = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);

const warn = console.warn.bind(console);
console.warn = (...words: unknown[]) => {
  warnings.push(words.map(String).join(" "));
  warn(...words);
};

const harness = {
  async join(url: string, token: string, { connect, ...options }: RoomOptions & { connect?: RoomConnectOptions } = {}) {
    room = new Room(options);
    room.on(RoomEvent.TrackSubscribed, (track) => document.body.append(Object.assign(track.attach(), { id: track.sid })));
    room.on(RoomEvent.LocalTrackPublished, (publication) => publication.track && document.body.append(publication.track.attach()));
    room.on(RoomEvent.TrackUnsubscribed, (track) => track.detach().forEach((element) => element.remove()));
    await room.connect(url, token, connect);
    return room.localParticipant.sid;
  },

  /**
   * `consent`: ask; answers come from `answer`. Names in `app` are offered as moving pictures of that size, and as sounds;
   * those that begin with `dead` as pictures that have ended. Of `broken` the functions throw.
   */
  attach(options: TrackControlOptions & { consent?: boolean; app?: Record<string, [number, number]>; broken?: string[] }): void {
    const { consent, app = {}, broken = [], ...rest } = options;
    const unless = (name: string) => { if (broken.includes(name)) throw new Error(`${name} is broken`); };
    const names = Object.entries(app);
    control = attachTrackControl(room, {
      ...rest,
      appVideo: Object.fromEntries(names.map(([name, [width, height]]) => [name, () => picture(width, height, name.startsWith("dead"))])),
      appAudio: Object.fromEntries(names.map(([name]) => [name, () => sound()])),
      veto: ({ action }) => (unless("veto"), vetoes++, vetoed.has(action)),
      state: () => (unless("state"), told),
      ...(consent && {
        onConsent: ({ action, restored }) =>
          new Promise<boolean>((answer) => (asked.push({ action, restored, answer }), unless("onConsent"))),
      }),
    });
  },

  detach: () => control?.detach(),
  /** From now on the camera opens that much later; with `failure`, a DOMException's name, not at all. Counted by `opened`. */
  camera(lateMs: number, failure?: string): void {
    navigator.mediaDevices.getUserMedia = async (constraints) => {
      opened++;
      await new Promise((next) => setTimeout(next, lateMs));
      if (failure) throw new DOMException("no camera", failure);
      const stream = await getUserMedia(constraints);
      films.push(...stream.getVideoTracks());
      return stream;
    };
  },
  opened: () => opened,
  /** Whether what was opened since still runs. */
  filming: () => films.some((one) => one.readyState === "live"),
  /** What the app says of its state from now on. */
  tell: (state: AppState) => { told = state; },
  leave: () => room.disconnect(),
  veto: (...actions: string[]) => (vetoed.clear(), actions.forEach((action) => vetoed.add(action))),
  counts: () => ({ vetoes, asked: asked.map(({ action, restored }) => ({ action, restored })), warnings }),
  answer: (granted: boolean) => asked.at(-1)?.answer(granted),
  sid: () => room.localParticipant.sid,
  others: () => [...room.remoteParticipants.keys()],
  keyframes: async () => {
    const [first] = room.localParticipant.trackPublications.values();
    let sum = 0;
    (await first?.track?.getRTCStatsReport())?.forEach((stat) => (sum += stat.keyFramesEncoded ?? 0));
    return sum;
  },
  scenario: (name: string) => room.simulateScenario(name as "full-reconnect"),
  /** A bare method, whose answer is so long. */
  echo: (name: string, length: number) => {
    const answer = "x".repeat(length);
    room.registerRpcMethod(name, () => Promise.resolve(answer));
  },
  publications: () =>
    [...room.localParticipant.trackPublications.values()].map((one) => ({
      sid: one.trackSid, name: one.trackName, source: one.source, muted: one.isMuted, mime: one.mimeType,
      settings: one.track?.mediaStreamTrack.getSettings() ?? {},
      encodings: one.track?.sender?.getParameters().encodings ?? [],
      preference: one.track?.sender?.getParameters().degradationPreference ?? "",
      live: one.track?.mediaStreamTrack.readyState ?? "",
    })),
  call: (to: string, method: string, payload: string) =>
    room.localParticipant.performRpc({ destinationIdentity: to, method, payload }),

  /** Gives the first video that style; without one it is removed. */
  style: (css?: string) => {
    const video = document.querySelector("video")!;
    if (css === undefined) video.remove();
    else video.style.cssText = css;
  },
  /** As when the user looks at another tab, or comes back. */
  hide: (hidden: boolean) => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
    Object.defineProperty(document, "visibilityState", { configurable: true, get: () => (hidden ? "hidden" : "visible") });
    document.dispatchEvent(new Event("visibilitychange"));
  },
  ratio: () => devicePixelRatio,
  /** What getStats tells of that track. */
  statistics: async (sid: string) => {
    const all = [room.localParticipant, ...room.remoteParticipants.values()].flatMap((one) => [...one.trackPublications.values()]);
    const found: object[] = [];
    (await all.find((one) => one.trackSid === sid)?.track?.getRTCStatsReport())?.forEach((stat) => found.push(stat));
    return found;
  },
  /** What the companion makes of getStats' entries. */
  measured: (entries: { id: string }[], isLocal: boolean, most: number) => {
    const found = new Map(entries.map((one) => [one.id, one]));
    return statsOf({ isLocal, getRTCStatsReport: () => Promise.resolve(found) } as unknown as Track, "TR_any", most);
  },
  /** What an app does to have another layer of the first video. */
  prefer: (quality: number) => {
    const [one] = [...room.remoteParticipants.values()].flatMap((each) => [...each.videoTrackPublications.values()]);
    (one as RemoteTrackPublication).setVideoQuality(quality);
  },
  /** Returns once the first video has pictures of that width. */
  shown: (width: number) =>
    new Promise<void>((done) => {
      const video = document.querySelector("video")!;
      const look = () => {
        if (video.videoWidth !== width) return;
        video.removeEventListener("resize", look);
        done();
      };
      video.addEventListener("resize", look);
      look();
    }),

  /** Whether the first video shows no new frame for half a second. */
  still: async () => {
    const frames = () => document.querySelector("video")?.getVideoPlaybackQuality().totalVideoFrames;
    const before = frames();
    await new Promise((next) => setTimeout(next, 500));
    return frames() === before;
  },

  /** Sizes, decoded frames and the burnt-in clock (milliseconds since 1970, or 0) of each video that is shown. */
  videos: () =>
    [...document.querySelectorAll("video")].filter((video) => video.videoWidth > 8).map((video) => ({
      width: video.videoWidth, height: video.videoHeight, at: performance.now(), now: Date.now(), clock: clock(video),
      frames: video.getVideoPlaybackQuality().totalVideoFrames,
    })),
};

/** Reads the 64 squares in the top row of a test pattern. */
function clock(video: HTMLVideoElement): number {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const context = canvas.getContext("2d")!;
  context.drawImage(video, 0, 0);
  const square = canvas.width / 64;
  const row = context.getImageData(0, Math.floor(square / 2), canvas.width, 1).data;
  const bits = Array.from({ length: 64 }, (_, index) => (row[4 * Math.floor((index + 0.5) * square) + 1]! > 127 ? "1" : "0"));
  const ms = Number(BigInt(`0b${bits.join("")}`));
  return ms > 1e12 && ms < 1e13 ? ms : 0;
}

function picture(width: number, height: number, dead: boolean): MediaStreamTrack {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d")!;
  clearInterval(timer);
  timer = setInterval(() => {
    context.fillStyle = `hsl(${performance.now() / 10}, 80%, 50%)`;
    context.fillRect(0, 0, width, height);
  }, 50);
  const made = canvas.captureStream(20).getVideoTracks()[0]!;
  if (dead) made.stop();
  return made;
}

function sound(): MediaStreamTrack {
  const context = new AudioContext(), tone = context.createOscillator(), out = context.createMediaStreamDestination();
  tone.connect(out);
  tone.start();
  return out.stream.getAudioTracks()[0]!;
}

Object.assign(globalThis, { harness });
