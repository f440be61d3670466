import {
  LocalAudioTrack, LocalVideoTrack, RemoteVideoTrack, RoomEvent, Track, TrackEvent, VideoQuality,
  type LocalTrack, type LocalTrackPublication, type RemoteTrack, type RemoteTrackPublication, type Room, type TrackPublishOptions,
} from "livekit-client";
import { degradation, encodings, fixed, processing, publishOptions } from "./options.js";
import { Refusal, type Plan, type Received, type Result, type Spec } from "./protocol.js";
import { FRAME_WAIT_MS, keyframe, sends, until } from "./sending.js";
import { mostBps, statsOf } from "./stats.js";

const QUALITIES = new Map([
  ["VIDEO_QUALITY_LOW", VideoQuality.LOW], ["VIDEO_QUALITY_MEDIUM", VideoQuality.MEDIUM], ["VIDEO_QUALITY_HIGH", VideoQuality.HIGH],
]);
const UNSET: Received = { enabled: true, quality: "VIDEO_QUALITY_HIGH", framesPerSecond: 0 };
const SUBSCRIBE_WAIT_MS = 5_000;
const REPUBLISH_WAIT_MS = 10_000;

/** A track of the app's own, or what gives one for a PublicationSpec in proto JSON. */
export type AppSource = MediaStreamTrack | ((spec: Spec) => MediaStreamTrack | Promise<MediaStreamTrack>);

/** By the names under which the service may ask for them. */
export interface AppSources { video: Record<string, AppSource>; audio: Record<string, AppSource> }

/** `gone`: it was unpublished, and what is being made in its place is not wanted any more. */
interface Own { track: LocalTrack; spec: Spec; gone?: boolean }

/** By room and publication id: a companion that is attached anew goes on with what an earlier one has published. */
const OWN = new WeakMap<Room, Map<string, Own>>();

/** The tracks of one room: those that the companion publishes, and those that it receives. */
export class Tracks {
  private readonly own;
  /** What the service has set for those of others. */
  private readonly set = new WeakMap<RemoteTrackPublication, Received>();
  /** Those with adaptiveStream that the service has ever paused. */
  private readonly paused = new WeakMap<RemoteTrackPublication, { enabled: boolean; visible: boolean; track: RemoteTrack | undefined }>();

  constructor(private readonly room: Room, private readonly sources: AppSources) {
    OWN.set(room, (this.own = OWN.get(room) ?? new Map<string, Own>()));
    room.on(RoomEvent.TrackSubscribed, this.subscribed).on(RoomEvent.Disconnected, this.left);
  }

  detach(): void {
    this.room.off(RoomEvent.TrackSubscribed, this.subscribed).off(RoomEvent.Disconnected, this.left);
  }

  /** The SDK publishes none of them again. */
  private readonly left = () => this.own.clear();

  private readonly subscribed = (_: RemoteTrack, one: RemoteTrackPublication) => {
    this.make(one);
    // LiveKit forgets the settings of a track that is given up for some seconds; the SDK does not, and keeps them to itself.
    if (this.set.has(one)) one.emitTrackUpdate();
  };

  /** SID of a publication that is published, else empty. */
  published(publicationId: string): string {
    return this.publicationOf(this.own.get(publicationId)?.track)?.trackSid ?? "";
  }

  async publish({ publicationId = "", spec = {}, muted = false }: Plan, taken: AbortSignal): Promise<Result> {
    const options = publishOptions(spec), known = this.own.get(publicationId)?.track;
    // One that the SDK publishes again after a reconnect, with a camera that it opens anew for it, is not opened a second time.
    const lives = () => known?.mediaStreamTrack.readyState === "live" || this.published(publicationId);
    const again = known && (await until(lives, REPUBLISH_WAIT_MS)), track = again ? known : await this.open(spec);
    if (taken.aborted && !track.isUserProvided) track.stop();
    taken.throwIfAborted();
    this.own.set(publicationId, { track, spec });
    return { trackSid: (await this.put(track, options, again ? track.isMuted : muted)).trackSid };
  }

  async unpublish(sid = "", publicationId = ""): Promise<Result> {
    const own = this.own.get(publicationId), found = sid ? this.local(sid)?.track : this.publicationOf(own?.track)?.track;
    if (!found && !publicationId) throw new Refusal("NOT_FOUND", `no own track ${sid}`);
    for (const [id, one] of this.own) if (id === publicationId || one.track === found) this.own.delete(id) && (one.gone = true);
    if (found) await this.room.localParticipant.unpublishTrack(found, !found.isUserProvided);
    return {};
  }

  /** In place where only rates and processing change; else by a new track, which comes before the old one goes. */
  async update(sid: string, { spec = {} }: Plan): Promise<Result> {
    const publication = this.local(sid), own = [...this.own.values()].find((one) => one.track === publication?.track);
    if (!publication || !own) throw new Refusal("NOT_FOUND", `no track ${sid} that the service has published`);
    const options = publishOptions(spec), { track } = own;
    if (fixed(own.spec) !== fixed(spec)) {
      const { id } = track, begun = performance.now(), next = await this.successor(own, spec);
      return this.replace(own, publication, next, options, spec, id === track.id ? 0 : performance.now() - begun);
    }
    await change(track, own.spec, spec);
    own.spec = spec;
    publication.options = options; // as it is published again after a reconnect
    if (track instanceof LocalVideoTrack) track.publishOptions = options;
    return { trackSid: sid };
  }

  async restart(sid: string, level = "", graceful = false): Promise<Result> {
    const publication = this.local(sid), track = publication?.track;
    if (!publication || !track) return this.resubscribe(sid, level);
    if (level === "RESTART_LEVEL_KEYFRAME") return keyframe(track).then(() => ({ trackSid: sid }));
    if (level !== "RESTART_LEVEL_REPUBLISH") throw new Refusal("UNSUPPORTED", "an own track has no such restart");
    const own = [...this.own.values()].find((one) => one.track === track) ?? { track, spec: {} };
    const next = graceful && !track.isMuted ? copy(track) : track;
    return this.replace(own, publication, next, publication.options ?? {}, own.spec);
  }

  async setMuted(sid: string, muted: boolean): Promise<Result> {
    const track = this.local(sid)?.track;
    if (!track) throw new Refusal("NOT_FOUND", `no own track ${sid}`);
    await (muted ? track.mute() : track.unmute());
    return { trackSid: sid };
  }

  isMuted(sid: string): boolean {
    return this.local(sid)?.isMuted ?? false;
  }

  /** Makes the settings, at the latest once the track is received. Gives the names of those that cannot be made. */
  setReceived({ trackSid = "", subscribed, reset, ...given }: Received): string[] {
    const one = this.received(trackSid), cannot = ["priority"];
    if (!one) return [`${trackSid}.track_sid`];
    if (subscribed === false) cannot.push("enabled");
    if (subscribed === false || one.kind !== Track.Kind.Video) cannot.push("quality", "width", "height", "framesPerSecond");
    if (given.width || !QUALITIES.has(given.quality ?? "")) cannot.push("quality"); // the SDK keeps one of the two
    const missing = Object.keys(given).filter((name) => cannot.includes(name));
    const made: Received = Object.fromEntries(Object.entries(given).filter(([name]) => !cannot.includes(name)));
    const before = { ...(reset ? UNSET : this.set.get(one)), ...(made.quality && { width: 0, height: 0 }) };
    if (subscribed !== undefined) one.setSubscribed(subscribed);
    if (reset || Object.keys(made).length) this.set.set(one, { ...before, ...made });
    if (subscribed !== false) this.make(one);
    return missing.map((name) => `${trackSid}.${name}`);
  }

  private make(one: RemoteTrackPublication): void {
    const settings = this.set.get(one);
    if (!settings || !one.track) return;
    if (!one.isDesired) one.setSubscribed(true); // the SDK ignores settings of a track to which only the server has subscribed it
    const { enabled, quality = "", width, height, framesPerSecond } = settings, layer = QUALITIES.get(quality);
    if (enabled !== undefined) this.enable(one, enabled);
    if (width && height) one.setVideoDimensions({ width, height });
    else if (layer !== undefined) one.setVideoQuality(layer);
    if (framesPerSecond !== undefined) one.setVideoFPS(framesPerSecond);
  }

  /** With adaptiveStream a video that cannot be seen stays paused: setEnabled(true) alone would end that for good. */
  private enable(one: RemoteTrackPublication, enabled: boolean): void {
    const { track } = one, known = this.paused.get(one) ?? { enabled: true, visible: one.isEnabled, track: undefined };
    if (!(track instanceof RemoteVideoTrack && track.isAdaptiveStream)) return one.setEnabled(enabled);
    if (enabled && known.enabled && !known.track) return;
    known.enabled = enabled;
    if (known.track !== track)
      track.on(TrackEvent.VisibilityChanged, (visible: boolean) => {
        if (known.track !== track) return; // one that was received before
        known.visible = visible;
        one.setEnabled(known.enabled && visible);
      });
    known.track = track;
    this.paused.set(one, known);
    one.setEnabled(enabled && known.visible);
  }

  async stats(sids: string[]): Promise<{ streams: object[] }[]> {
    const { localParticipant: me, remoteParticipants: others } = this.room;
    const all = [me, ...others.values()].flatMap((one) => one.getTrackPublications());
    const wanted = all.filter((one) => one.track && (!sids.length || sids.includes(one.trackSid)));
    const most = mostBps(me.getTrackPublications().map((one) => one.track as LocalTrack | undefined));
    return Promise.all(wanted.map((one) => statsOf(one.track!, one.trackSid, most)));
  }

  /** What carries a plan that the live track cannot, without another question to the user. */
  private async successor({ track, spec: before }: Own, spec: Spec): Promise<LocalTrack> {
    const kind = spec.device?.kind ?? "", { width, height, framesPerSecond: frameRate } = spec.video ?? {};
    const resolution = width && height ? { width, height, ...(frameRate && { frameRate }) } : undefined;
    const afresh = /MICROPHONE/.test(kind) || (/CAMERA/.test(kind) && track.isMuted);
    if (afresh || JSON.stringify(before.device) !== JSON.stringify(spec.device)) return this.open(spec);
    // A camera that is open keeps its size, whatever a second user of it asks for: the first one has to let go.
    const { deviceId } = track.mediaStreamTrack.getSettings();
    if (/CAMERA/.test(kind)) await track.restartTrack({ ...(deviceId && { deviceId }), ...(resolution && { resolution }) } as object);
    const next = copy(track);
    if (!/CAMERA/.test(kind)) await next.mediaStreamTrack.applyConstraints(resolution);
    return next;
  }

  private async open(spec: Spec): Promise<LocalTrack> {
    const kind = spec.device?.kind?.replace("DEVICE_KIND_", "") ?? "", device = spec.device?.device ?? "";
    const me = this.room.localParticipant, deviceId = device && { deviceId: { exact: device } };
    const { width, height, framesPerSecond: frameRate = 30 } = spec.video ?? {};
    const resolution = width && height ? { resolution: { width, height, frameRate } } : {};
    let found: LocalTrack | undefined;
    if (kind === "CAMERA") [found] = await me.createTracks({ video: { ...deviceId, ...resolution } });
    else if (kind === "MICROPHONE") [found] = await me.createTracks({ audio: { ...deviceId, ...processing(spec.audio ?? {}) } });
    else if (kind === "SCREEN" || kind === "SCREEN_AUDIO") {
      const shared = await me.createScreenTracks({ audio: kind === "SCREEN_AUDIO", ...resolution });
      found = shared.find((one) => one.kind === (kind === "SCREEN" ? Track.Kind.Video : Track.Kind.Audio));
      shared.filter((one) => one !== found).forEach((one) => one.stop());
      if (!found) throw new Refusal("FAILED", "what is shared has no sound");
    } else if (kind === "APP_VIDEO" || kind === "APP_AUDIO") {
      const offered = kind === "APP_VIDEO" ? this.sources.video : this.sources.audio, source = offered[device];
      if (!source || !Object.hasOwn(offered, device)) throw new Refusal("UNSUPPORTED", `the app offers no ${kind} ${device}`);
      const media = typeof source === "function" ? await source(spec) : source, type = kind === "APP_VIDEO" ? "video" : "audio";
      if (media?.readyState !== "live" || media.kind !== type)
        throw new Refusal("FAILED", `what the app gives as ${device} is no live ${type}`);
      found = kind === "APP_VIDEO" ? new LocalVideoTrack(media, undefined, true) : new LocalAudioTrack(media, undefined, true);
    }
    if (!found) throw new Refusal("UNSUPPORTED", `no device of kind ${kind}`);
    return found;
  }

  /** Publishes a track; a muted one so that nobody sees or hears a moment of it. */
  private async put(track: LocalTrack, options: TrackPublishOptions, muted: boolean): Promise<LocalTrackPublication> {
    const camera = muted && track.source === Track.Source.Camera && !track.isUserProvided;
    if (camera) track.source = Track.Source.Unknown; // else mute() would stop it before its size is known
    if (muted) await track.mute();
    const done = await this.room.localParticipant.publishTrack(track, options);
    if (camera) track.mediaStreamTrack.stop(); // unmute() opens it again
    return done;
  }

  /** Publishes `next` for the track of `own`: before that one goes, or after it where both are the same. */
  private async replace(
    own: Own, old: LocalTrackPublication, next: LocalTrack, options: TrackPublishOptions, spec: Spec, lostMs = 0,
  ): Promise<Result> {
    const { track } = own, muted = track.isMuted, graceful = next !== track, me = this.room.localParticipant;
    const begun = performance.now();
    if (!graceful) await me.unpublishTrack(track, false);
    if (!graceful && !muted && !track.isUserProvided && /camera|microphone/.test(track.source)) await track.restartTrack();
    const { trackSid } = await this.put(next, options, muted).catch((error: unknown) => {
      if (graceful) next.stop();
      throw error;
    });
    if (own.gone) {
      await me.unpublishTrack(next, !next.isUserProvided);
      if (!track.isUserProvided) track.stop(); // it may have been opened anew since
      throw new Refusal("FAILED", "it was taken back");
    }
    Object.assign(own, { track: next, spec });
    const sent = !muted && (await until(() => sends(next), FRAME_WAIT_MS)), gap = graceful ? lostMs : performance.now() - begun;
    if (graceful && old.track) await me.unpublishTrack(old.track, !old.track.isUserProvided);
    return { trackSid, gapMs: sent ? gap : undefined };
  }

  private async resubscribe(sid: string, level: string): Promise<Result> {
    const one = this.received(sid);
    if (!one) throw new Refusal("NOT_FOUND", `no track ${sid}`);
    if (level !== "RESTART_LEVEL_RESUBSCRIBE") throw new Refusal("UNSUPPORTED", "a received track can only be subscribed again");
    for (const wanted of [false, true]) {
      one.setSubscribed(wanted);
      if (!(await until(() => Boolean(one.track) === wanted, SUBSCRIBE_WAIT_MS)))
        throw new Refusal("FAILED", `it was not ${wanted ? "received again" : "given up"} in time`);
    }
    return { trackSid: sid };
  }

  private local(sid: string): LocalTrackPublication | undefined {
    return this.room.localParticipant.trackPublications.get(sid) as LocalTrackPublication | undefined;
  }

  private publicationOf(track: LocalTrack | undefined): LocalTrackPublication | undefined {
    return track && (this.room.localParticipant.getTrackPublications() as LocalTrackPublication[]).find((one) => one.track === track);
  }

  private received(sid: string): RemoteTrackPublication | undefined {
    return [...this.room.remoteParticipants.values()].map((one) => one.getTrackPublicationBySid(sid)).find(Boolean);
  }
}

/** Makes the rates, the degradation preference and the processing of a live track those of `spec`. */
async function change(track: LocalTrack, before: Spec, spec: Spec): Promise<void> {
  const frameRate = spec.video?.framesPerSecond, media = track.mediaStreamTrack;
  if (frameRate) {
    await media.applyConstraints({ ...media.getConstraints(), frameRate });
    Object.assign(track.constraints, { frameRate }); // for when the camera is opened again after a mute
  }
  const sound = processing(spec.audio ?? {});
  if (track instanceof LocalAudioTrack && !track.isUserProvided && JSON.stringify(sound) !== JSON.stringify(processing(before.audio ?? {})))
    await track.restartTrack({ ...track.constraints, ...sound } as Parameters<LocalAudioTrack["restartTrack"]>[0]);
  const preference = degradation(spec), bitrate = spec.audio?.maxBitrateBps, wanted = bitrate ? [{ maxBitrate: bitrate }] : encodings(spec);
  if (track instanceof LocalVideoTrack && preference) await track.setDegradationPreference(preference);
  const parameters = track.sender?.getParameters();
  for (let at = 1; parameters && at <= wanted.length; at++) Object.assign(parameters.encodings.at(-at) ?? {}, wanted.at(-at));
  if (parameters) await track.sender?.setParameters(parameters);
}

/** The same pictures or sound as a second track. */
function copy(track: LocalTrack): LocalTrack {
  const media = track.mediaStreamTrack.clone(), made = track instanceof LocalVideoTrack ? LocalVideoTrack : LocalAudioTrack;
  return new made(media, track.constraints, track.isUserProvided) as LocalTrack;
}
