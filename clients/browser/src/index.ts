import type { Room, RpcInvocationData } from "livekit-client";
import { capabilities, snake } from "./capabilities.js";
import { Refusal, UTF8, type Answer, type Fields, type Result } from "./protocol.js";
import { StateReports, type AppState } from "./state.js";
import { Tracks, type AppSource } from "./tracks.js";
import { SKEW_MS, Trust, type Command } from "./trust.js";

export type { AppState } from "./state.js";
export type { AppSource } from "./tracks.js";
export type { Fields, Spec } from "./protocol.js";

/**
 * What the service asks for. `action`: `publish`, `unpublish`, `update`, `mute`, `unmute`, `set_received` or `restart`;
 * `fields`: its own, as in control.proto; `restored`: it was published, and consented to, before; `signal`: aborted once an
 * answer is of no use any more.
 */
export interface TrackControlRequest { action: string; fields: Fields; restored: boolean; signal: AbortSignal }

export type Question = (request: TrackControlRequest) => boolean | Promise<boolean>;

export interface TrackControlOptions {
  /** The service's key (`control_key.public_key` of GetServerInfo or CreateTrackToken): 32 bytes, or their base64. */
  publicKey?: Uint8Array | string;
  /** In the place of `publicKey`: obeys whoever calls, participants left out as far as they can be told. */
  unsigned?: boolean;
  /** Video that the app offers by name. */
  appVideo?: Record<string, AppSource>;
  /** Audio that the app offers by name. */
  appAudio?: Record<string, AppSource>;
  /** False lets a command pass, and nothing else. It is not asked about questions (statistics, capabilities). */
  veto?: Question;
  /** Asks the user before something is published or unmuted: true grants it, and nothing else. Without it, it is granted. */
  onConsent?: Question;
  /** Reports the machine's load, by the Compute Pressure API where there is one: from 85 % on the service sends less video. */
  reportCpu?: boolean;
  /** What the app adds to what is reported, asked for each time. */
  state?: () => AppState;
  /** How long an answer of `veto` or `onConsent` is waited for. Default 30,000. */
  consentTimeoutMs?: number;
}

export interface TrackControl {
  /** Obeys no more; what is published stays. May be called twice. */
  detach(): void;
}

type Job = { text: string; state: State; until: number };
type State = { reply: Answer; over: boolean; taken: AbortController; done: Promise<void> };

const METHOD = "track.control.v1";
// LiveKit carries 15 KiB, and runs a handler that takes 3 s three times. What is done so soon needs no second call.
const MAX_REPLY_BYTES = 15_000;
const AT_ONCE_MS = 100;
const AT_ONCE_TURNS = 30;
const KEPT_MS = 120_000;
/** By room and command id: one that is attached anew does nothing again that an earlier one was told. */
const JOBS = new WeakMap<Room, Map<string, Job>>();

/**
 * Lets TrackService control the tracks of the room's own participant, until `detach()`. Throws TypeError for bad options, and
 * Error where a companion is attached to the room already.
 */
export function attachTrackControl(room: Room, options: TrackControlOptions): TrackControl {
  if ((options.publicKey === undefined) !== (options.unsigned === true))
    throw new TypeError("give the service's publicKey, or ask for unsigned: true");
  const { consentTimeoutMs = 0 } = options;
  if (!(consentTimeoutMs >= 0 && consentTimeoutMs <= Number.MAX_SAFE_INTEGER)) // as AbortSignal.timeout takes it
    throw new TypeError("consentTimeoutMs must be a number of milliseconds, from 0");
  return new Companion(room, options);
}

class Companion implements TrackControl {
  private detached = false;
  private readonly trust: Trust;
  private readonly tracks: Tracks;
  private readonly reports: StateReports;
  private readonly sources;
  private capabilities: Promise<object> | undefined;
  private readonly jobs;
  /** By publication id: those that are being published. */
  private readonly publishing = new Map<string, State>();
  /** Ids of publications that the user has granted and that are not published yet: for another try nobody is asked again. */
  private readonly granted = new Set<string>();

  constructor(private readonly room: Room, private readonly options: TrackControlOptions) {
    this.trust = new Trust(room, options.publicKey);
    room.registerRpcMethod(METHOD, (call) => this.handle(call)); // throws where a companion is attached already
    JOBS.set(room, (this.jobs = JOBS.get(room) ?? new Map<string, Job>()));
    this.sources = { video: options.appVideo ?? {}, audio: options.appAudio ?? {} };
    this.tracks = new Tracks(room, this.sources);
    this.reports = new StateReports(room, () => this.tracks.stats([]), options.reportCpu ?? false, options.state);
    navigator.mediaDevices?.addEventListener("devicechange", this.devicesChanged);
  }

  private readonly devicesChanged = () => { this.capabilities = undefined; };

  detach(): void {
    if (!this.detached) this.room.unregisterRpcMethod(METHOD);
    this.detached = true;
    this.reports.stop();
    this.tracks.detach();
    navigator.mediaDevices?.removeEventListener("devicechange", this.devicesChanged);
    for (const { state } of this.jobs.values()) state.taken.abort(new Refusal("FAILED", "the companion was detached"));
  }

  private async handle({ payload, callerIdentity }: RpcInvocationData): Promise<string> {
    let commandId = "", answer: Answer;
    try {
      const command = await this.trust.check(payload, callerIdentity);
      commandId = command.action === "getResult" ? (command.fields.commandId ?? "") : command.id;
      answer = await this.take(command);
    } catch (error) {
      if (error instanceof Refusal) commandId ||= error.commandId;
      answer = failure(error);
      console.warn("track control: a command was refused:", answer.detail);
    }
    const text = JSON.stringify({ commandId, ...answer });
    if (UTF8.encode(text).length <= MAX_REPLY_BYTES) return text;
    return JSON.stringify({ commandId, ...failure(new Error("the answer is longer than LiveKit carries: ask for less")) });
  }

  private async take(command: Command): Promise<Answer> {
    const { id, text, action, fields, expires } = command;
    const asks = action === "getResult", job = this.jobs.get(asks ? (fields.commandId ?? "") : id);
    if (asks && !job) throw new Refusal("NOT_FOUND", "no such command came here");
    if (!asks && job && job.text !== text) throw new Refusal("REPLAYED", "the command's id was used before");
    if (job) return job.state.reply;
    const state = this.begin(command), now = Date.now();
    for (const [old, job] of this.jobs) {
      if (job.until >= now) break; // so are those that came after it, or nearly
      if (job.state.over) this.jobs.delete(old);
    }
    this.jobs.set(id, { text, state, until: Math.max(expires, now) + SKEW_MS + KEPT_MS });
    // What waits for nothing is done a few microtasks later, and a timer costs more than all of them.
    for (let turn = 0; turn < AT_ONCE_TURNS && !state.over; turn++) await undefined;
    if (!state.over) await Promise.race([state.done, new Promise((next) => setTimeout(next, AT_ONCE_MS))]);
    return state.reply;
  }

  private begin({ action, fields }: Command): State {
    const { publicationId = "" } = fields, open = this.publishing.get(publicationId);
    if (action === "publish" && open) return open;
    const state: State = { reply: { status: "COMMAND_STATUS_ACCEPTED" }, over: false, taken: new AbortController(), done: Promise.resolve() };
    if (action === "publish") this.publishing.set(publicationId, state);
    if (action === "unpublish") open?.taken.abort(new Refusal("FAILED", "it was taken back"));
    const finished = (answer: Answer) => {
      state.reply = { ...state.reply, ...answer };
      state.over = true;
      if (answer.status !== "COMMAND_STATUS_FAILED") this.granted.delete(publicationId);
      if (this.publishing.get(publicationId) === state) this.publishing.delete(publicationId);
    };
    state.done = Promise.resolve(action === "unpublish" ? open?.done : undefined)
      .then(() => this.run(state, action, fields))
      .then((result) => finished({ status: "COMMAND_STATUS_DONE", result }), (error: unknown) => finished(failure(error)));
    return state;
  }

  private async run(state: State, action: Command["action"], fields: Fields): Promise<Result> {
    const { tracks, trust } = this, { trackSid = "", publicationId = "", muted = false } = fields;
    if (action === "getStats") return { stats: await tracks.stats(fields.trackSids ?? []) };
    if (action === "getCapabilities")
      return { capabilities: await (this.capabilities ??= capabilities(this.room, this.sources, trust.signed)) };
    if (action === "reportState") return this.reports.start(fields), {};
    const published = action === "publish" && tracks.published(publicationId);
    if (published) return { trackSid: published };
    const name = action === "setMuted" ? (muted ? "mute" : "unmute") : snake(action);
    const asks = (name === "publish" && !this.granted.has(publicationId)) || (name === "unmute" && tracks.isMuted(trackSid));
    await this.allow(state, { action: name, fields, restored: fields.restored ?? false }, asks);
    if (name === "publish") this.granted.add(publicationId);
    switch (action) {
      case "publish": return tracks.publish(fields, state.taken.signal);
      case "unpublish": return tracks.unpublish(trackSid, publicationId);
      case "update": return tracks.update(trackSid, fields.publish ?? {});
      case "restart": return tracks.restart(trackSid, fields.level, fields.graceful);
      case "setMuted": return tracks.setMuted(trackSid, muted);
      default: return { unsupported: (fields.tracks ?? []).flatMap((one) => tracks.setReceived(one)) };
    }
  }

  /** Asks the app, and the user where `asks`. What is no clear yes is a no. Throws Refusal. */
  private async allow(state: State, request: Omit<TrackControlRequest, "signal">, asks: boolean): Promise<void> {
    const { veto, onConsent } = this.options, { reply } = state;
    if (veto && (await this.ask(veto, request, state)) !== false) {
      reply.consent = "CONSENT_REFUSED";
      throw new Refusal("REFUSED", "the app refused");
    }
    if (!asks) return;
    reply.consent = "CONSENT_ASKED";
    const answer = onConsent ? await this.ask(onConsent, request, state) : true;
    reply.consent = answer === undefined ? "CONSENT_NO_ANSWER" : answer === true ? "CONSENT_GRANTED" : "CONSENT_REFUSED";
    if (answer === undefined) throw new Refusal("NO_ANSWER", "nobody answered");
    if (answer !== true) throw new Refusal("REFUSED", "the user refused");
  }

  /** The answer; nothing where none came in time. Throws where the command is taken back. */
  private async ask(question: Question, request: Omit<TrackControlRequest, "signal">, { taken }: State): Promise<unknown> {
    const over = AbortSignal.timeout(this.options.consentTimeoutMs ?? 30_000), signal = AbortSignal.any([over, taken.signal]);
    const ended = new Promise<undefined>((end) => signal.addEventListener("abort", () => end(undefined)));
    // A question that breaks was answered by nobody.
    const asked = (async () => question({ ...request, signal }))().catch((error: unknown) => console.warn("track control:", error));
    const answer = await Promise.race([ended, asked]);
    taken.signal.throwIfAborted();
    return answer;
  }
}

function failure(error: unknown): Answer {
  const detail = (error instanceof Error ? error.message : String(error)).slice(0, 200);
  // In the browser's own dialog the user has said no: asking once more would be to press.
  if (error instanceof DOMException && error.name === "NotAllowedError")
    return { status: "COMMAND_STATUS_REFUSED", consent: "CONSENT_REFUSED", detail };
  return { status: `COMMAND_STATUS_${error instanceof Refusal ? error.status : "FAILED"}`, detail };
}
