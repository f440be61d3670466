import type { Room } from "livekit-client";
import { Refusal, UTF8, type Fields } from "./protocol.js";

/** By how much clocks may differ. */
export const SKEW_MS = 30_000;
export const ACTIONS = [
  "publish", "unpublish", "update", "setMuted", "setReceived", "getStats", "restart", "getCapabilities", "getResult", "reportState",
] as const;

/** A command that is to be obeyed. `text`: as it was signed; `expires`: milliseconds since 1970. */
export type Command = { id: string; text: string; action: (typeof ACTIONS)[number]; fields: Fields; expires: number };

/** Which commands are obeyed: the service's own, for this connection, in time. */
export class Trust {
  /** Without it commands need no signature; it gives nothing where the browser has no Ed25519. */
  private readonly key: Promise<CryptoKey | undefined> | undefined;

  /** Without a `publicKey` (Ed25519, 32 bytes or their base64) calls of participants are refused, as far as that can be told. */
  constructor(private readonly room: Room, publicKey: Uint8Array | string | undefined) {
    if (publicKey === undefined) {
      console.warn("track control is unsigned: whoever can call this participant's RPC may control its tracks");
      return;
    }
    const raw = typeof publicKey === "string" ? decoded(publicKey) : Uint8Array.from(publicKey);
    if (raw?.length !== 32) throw new TypeError("publicKey must be 32 bytes, or their base64");
    if (!globalThis.crypto?.subtle) throw new TypeError("signatures need a secure context: https, or localhost");
    this.key = crypto.subtle.importKey("raw", raw, "Ed25519", false, ["verify"]).catch((error: unknown) => {
      console.error("track control: this browser has no Ed25519", error);
      return undefined;
    });
  }

  get signed(): boolean {
    return this.key !== undefined;
  }

  /** The command of a call. Throws Refusal. */
  async check(payload: string, caller: string): Promise<Command> {
    const { command: text, signature } = parsed(payload);
    if (typeof text !== "string") throw new Refusal("INVALID", "it is no signed command");
    const { name, localParticipant: me, remoteParticipants: others } = this.room;
    // The service is no participant: LiveKit gives its calls a random id, and those of hidden participants an empty one.
    if (!this.key && (!caller || caller === me.identity || others.has(caller)))
      throw new Refusal("FORGED", "a participant called, and not the service");
    if (this.key && !(await verified(this.key, text, signature)))
      throw new Refusal("FORGED", "it is not signed with the service's key");
    const command = parsed(text), id = command.commandId, now = Date.now();
    const issued = Date.parse(String(command.issueTime)), expires = Date.parse(String(command.expireTime));
    if (typeof id !== "string" || !id || Number.isNaN(issued + expires)) throw new Refusal("INVALID", "the command cannot be read");
    if (command.room !== name || command.participantIdentity !== me.identity || !me.sid || command.participantSid !== me.sid)
      throw new Refusal("NOT_FOR_US", "it is for another room, participant or connection", id);
    if (now > expires + SKEW_MS || now < issued - SKEW_MS) throw new Refusal("EXPIRED", "it is too old, or from the future", id);
    const action = ACTIONS.find((one) => typeof command[one] === "object" && command[one] !== null);
    if (!action) throw new Refusal("UNSUPPORTED", "this companion does not know the command", id);
    return { id, text, action, fields: command[action] as Fields, expires };
  }
}

async function verified(imported: Promise<CryptoKey | undefined>, text: string, signature: unknown): Promise<boolean> {
  const key = await imported;
  if (!key) throw new Refusal("UNSUPPORTED", "this browser cannot check signatures (Ed25519)");
  try {
    return await crypto.subtle.verify("Ed25519", key, bytes(String(signature)), UTF8.encode(`track.control.v1\n${text}`));
  } catch {
    return false; // not base64: as good as a wrong one
  }
}

function parsed(text: string): Record<string, unknown> {
  try {
    return { ...JSON.parse(text) };
  } catch {
    throw new Refusal("INVALID", "it cannot be read");
  }
}

/** Nothing where it is no base64. */
function decoded(base64: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    return bytes(base64);
  } catch {
    return undefined;
  }
}

function bytes(base64: string): Uint8Array<ArrayBuffer> {
  const text = atob(base64), made = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) made[at] = text.charCodeAt(at);
  return made;
}
