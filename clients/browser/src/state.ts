import { ConnectionState, RoomEvent, TrackEvent, type RemoteTrack, type RemoteTrackPublication, type Room } from "livekit-client";
import { decoding } from "./capabilities.js";
import { UTF8, type Fields } from "./protocol.js";
import { messages, report } from "./stats.js";

const TOPIC = "track.state.v1";
const QUIET_MS = 100;
const VIDEOS = 50; // in one message, which may have 15 KiB
const BLANK = 8; // the edge of what is decoded of a track that is gone
const STATS_PER_S = 16_384; // bytes: half of what the service takes from one client
/** The Compute Pressure API has no numbers: from which load on Chromium calls it so. */
const LOADS: Record<string, number> = { nominal: 0, fair: 0.6, serious: 0.75, critical: 0.9 };
const ROOM_EVENTS = [RoomEvent.TrackSubscribed, RoomEvent.TrackUnsubscribed, RoomEvent.TrackUnpublished] as const;
const PAGE_EVENTS = ["visibilitychange", "resize", "enterpictureinpicture", "leavepictureinpicture"];

type Pressure = { observe(source: "cpu", options: object): Promise<void>; disconnect(): void };
type Decoded = { width?: number; height?: number; count: number; at: number; framesPerSecond?: number | undefined };

/** What an app tells of its user's client: what the downlink carries, in bits per second, and the machine's load, 0 to 1. */
export interface AppState { downlinkBps?: number; cpuLoad?: number }

/** Reports of one room, to whom the service says, while it says so. */
export class StateReports {
  private to = "";
  private timer = 0;
  private statsTimer = 0;
  /** Grows with each start and stop. */
  private turn = 0;
  private pending = 0;
  private sentAt = 0;
  private sent = "";
  private able: object = {};
  private load: { cpuLoad?: number } = {};
  /** Which elements can be seen, as far as that was told. */
  private seen = new WeakMap<Element, boolean>();
  /** Videos that are, or were, shown by an element. */
  private readonly shown = new WeakSet<RemoteTrackPublication>();
  private decoded = new Map<string, Decoded>();
  private readonly sight = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) this.seen.set(target, isIntersecting);
    this.changed();
  });
  private readonly sizes = new ResizeObserver(() => this.changed());
  private pressure: Pressure | undefined;

  /** `stats`: of all tracks. `cpu`: tell the machine's load, where the browser can. `app`: what the app knows besides. */
  constructor(
    private readonly room: Room, private readonly stats: () => Promise<{ streams: object[] }[]>,
    private readonly cpu: boolean, private readonly app?: () => AppState,
  ) {}

  /** From now on, in the place of before; without a destination no more. */
  start({ destinationIdentity = "", interval = "5s", statsInterval }: Fields): void {
    this.stop();
    if (!destinationIdentity) return;
    this.to = destinationIdentity;
    ROOM_EVENTS.forEach((event) => this.room.on(event, this.changed));
    PAGE_EVENTS.forEach((event) => addEventListener(event, this.changed, true));
    this.timer = setInterval(() => void this.measure(), span(interval));
    if (statsInterval) void this.tellStats(span(statsInterval), this.turn);
    this.press();
    void decoding().then((able) => { this.able = able; void this.measure(); });
  }

  stop(): void {
    this.to = this.sent = "";
    clearInterval(this.timer);
    clearTimeout(this.statsTimer);
    this.turn++;
    clearTimeout(this.pending);
    this.pending = 0;
    ROOM_EVENTS.forEach((event) => this.room.off(event, this.changed));
    PAGE_EVENTS.forEach((event) => removeEventListener(event, this.changed, true));
    this.sight.disconnect();
    this.sizes.disconnect();
    this.seen = new WeakMap();
    this.pressure?.disconnect();
    this.pressure = undefined;
    this.load = {};
  }

  private readonly changed = () => {
    if (this.to) this.pending ||= setTimeout(() => this.send(), Math.max(0, this.sentAt + QUIET_MS - performance.now()));
  };

  private press(): void {
    const made = (globalThis as { PressureObserver?: new (take: (records: { state: string }[]) => void) => Pressure }).PressureObserver;
    if (!made || !this.cpu) return;
    this.pressure = new made((records) => {
      const cpuLoad = LOADS[records.at(-1)?.state ?? ""];
      if (cpuLoad !== undefined) this.load = { cpuLoad };
      this.changed();
    });
    this.pressure.observe("cpu", { sampleInterval: 2_000 }).catch(() => undefined);
  }

  /** Looks at the statistics of all videos, and sends the whole state. */
  private async measure(): Promise<void> {
    const decoded = new Map<string, Decoded>();
    for (const { track, trackSid } of this.videos()) {
      if (!track) continue;
      const { streams: [one] } = await report(track), before = this.decoded.get(trackSid), at = performance.now();
      const { framesDecoded: count = 0, frameWidth: width = 0, frameHeight: height = 0 } = one ?? {};
      const rate = before && Math.round((10_000 * Math.max(0, count - before.count)) / (at - before.at)) / 10;
      decoded.set(trackSid, { count, at, framesPerSecond: rate, ...(width > BLANK && { width, height }) });
    }
    this.decoded = decoded;
    this.sent = "";
    this.send();
  }

  /** Sends statistics now and at the interval; those of many tracks less often, since the service takes no flood. */
  private async tellStats(everyMs: number, turn: number): Promise<void> {
    const begun = performance.now(), texts = messages(await this.stats().catch(() => []));
    if (turn !== this.turn) return;
    texts.forEach((text) => this.publish(text));
    const waitMs = Math.max(everyMs, (texts.join("").length / STATS_PER_S) * 1000) - (performance.now() - begun);
    this.statsTimer = setTimeout(() => void this.tellStats(everyMs, turn), Math.max(0, waitMs));
  }

  private send(): void {
    clearTimeout(this.pending);
    this.pending = 0;
    if (!this.to) return;
    const videos = this.videos(), viewports = videos.flatMap((one) => this.viewport(one)), received = videos.map((one) => this.received(one));
    const state = { ...this.able, ...this.load, ...this.fromApp() }, told = JSON.stringify([state, viewports, received]);
    if (told === this.sent) return;
    [this.sent, this.sentAt] = [told, performance.now()];
    for (let at = 0; at === 0 || at < received.length; at += VIDEOS) {
      const part = { ...(at === 0 && state), viewports: viewports.slice(at, at + VIDEOS) };
      const text = JSON.stringify({ state: part, received: received.slice(at, at + VIDEOS) });
      this.publish(text);
    }
  }

  /** What the app adds; nothing where it breaks: what is seen here is reported all the same. */
  private fromApp(): AppState {
    try {
      return this.app?.() ?? {};
    } catch (error) {
      console.warn("track control: the app's state is not known:", error);
      return {};
    }
  }

  private publish(text: string): void {
    // While livekit-client 2.23 makes its connection anew, data that is sent breaks all data of the new one, calls included.
    if (this.room.state !== ConnectionState.Connected) return;
    this.room.localParticipant
      .publishData(UTF8.encode(text), { reliable: true, destinationIdentities: [this.to], topic: TOPIC })
      .catch((error: unknown) => console.debug("track control: the state could not be reported", error));
  }

  private videos(): RemoteTrackPublication[] {
    return [...this.room.remoteParticipants.values()].flatMap((one) => [...one.videoTrackPublications.values()] as RemoteTrackPublication[]);
  }

  /** A TrackViewport, in physical pixels, once the video is shown by an element. */
  private viewport(publication: RemoteTrackPublication): object[] {
    const { track, trackSid } = publication, elements = track ? this.elements(track) : [];
    if (elements.some((one) => this.seen.has(one))) this.shown.add(publication);
    else if (elements.length) return []; // the browser tells in a moment whether it can be seen
    if (!track || !this.shown.has(publication)) return [];
    const inPicture = (one: Element) => one === document.pictureInPictureElement;
    const visible = elements.filter((one) => inPicture(one) || (!document.hidden && this.seen.get(one)));
    const size = largest(visible, devicePixelRatio), [width, height] = size;
    const found = { trackSid, visible: width * height > 0, ...(width * height > 0 && { width, height }) };
    const { adaptiveStream } = this.room.options;
    if (!adaptiveStream || !("isAdaptiveStream" in track && track.isAdaptiveStream)) return [found];
    // What livekit-client 2.23 makes of it: RemoteVideoTrack.updateDimensions and updateVisibility.
    const { pixelDensity, pauseVideoInBackground = true } = adaptiveStream === true ? {} : adaptiveStream;
    const density = pixelDensity === "screen" ? devicePixelRatio : (pixelDensity ?? (devicePixelRatio > 2 ? 2 : 1));
    const watched = elements.some((one) => inPicture(one) || (this.seen.get(one) && !(document.hidden && pauseVideoInBackground)));
    const [adaptiveWidth, adaptiveHeight] = watched ? largest(elements, density) : [0, 0];
    return [{ ...found, adaptiveWidth, adaptiveHeight }];
  }

  /** The elements that show the track, observed from now on. */
  private elements(track: RemoteTrack): HTMLMediaElement[] {
    for (const event of [TrackEvent.ElementAttached, TrackEvent.ElementDetached] as const)
      if (!track.listeners(event).includes(this.changed)) track.on(event, this.changed);
    for (const one of track.attachedElements)
      if (!this.seen.has(one)) {
        this.sight.observe(one);
        this.sizes.observe(one);
      }
    return track.attachedElements;
  }

  /** A ReceivedVideo. */
  private received({ track, trackSid, isSubscribed: subscribed }: RemoteTrackPublication): object {
    const { width, height, framesPerSecond } = this.decoded.get(trackSid) ?? {};
    const element = track?.attachedElements.find((one) => one instanceof HTMLVideoElement && one.videoWidth > BLANK) as HTMLVideoElement | undefined;
    const size = element ? { width: element.videoWidth, height: element.videoHeight } : { width, height };
    return { trackSid, subscribed, ...(subscribed && track && { ...size, framesPerSecond }) };
  }
}

/** A Duration in milliseconds, of 1 s to 60 s. */
function span(interval: string): number {
  return Math.min(60, Math.max(1, parseFloat(interval))) * 1000;
}

/** Width and height of the largest element, by the sum of both, in those pixels. */
function largest(elements: HTMLElement[], density: number): [number, number] {
  const sizes = elements.map((one): [number, number] => [Math.ceil(one.clientWidth * density), Math.ceil(one.clientHeight * density)]);
  return sizes.reduce((most, one) => (one[0] + one[1] > most[0] + most[1] ? one : most), [0, 0]);
}
