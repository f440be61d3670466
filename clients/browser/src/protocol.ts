/** track.control.v1 in proto JSON, as far as a browser reads and writes it. */
export type Status = "ACCEPTED" | "DONE" | "FAILED" | "REFUSED" | "NO_ANSWER" | "FORGED" | "NOT_FOR_US" | "EXPIRED"
  | "REPLAYED" | "UNSUPPORTED" | "NOT_FOUND" | "INVALID";
export type Layer = { width?: number; height?: number; framesPerSecond?: number; maxBitrateBps?: number };
export type Video = Layer & {
  codec?: string; simulcast?: boolean; layers?: Layer[]; scalabilityMode?: string; degradationPreference?: string;
};
export type Audio = {
  maxBitrateBps?: number; dtx?: boolean; red?: boolean; stereo?: boolean;
  noiseSuppression?: boolean; echoCancellation?: boolean; autoGainControl?: boolean;
};
/** A PublicationSpec of route CLIENT. */
export type Spec = { device?: { kind?: string; device?: string }; name?: string; source?: string; video?: Video; audio?: Audio };
export type Plan = { publicationId?: string; spec?: Spec; muted?: boolean; restored?: boolean };
export type Received = Omit<Layer, "maxBitrateBps"> & {
  trackSid?: string; subscribed?: boolean; enabled?: boolean; quality?: string; priority?: number; reset?: boolean;
};
/** The fields of any action. */
export type Fields = Plan & {
  trackSid?: string; publish?: Plan; tracks?: Received[]; trackSids?: string[]; level?: string; graceful?: boolean; commandId?: string;
  destinationIdentity?: string; interval?: string; statsInterval?: string;
};
export type Result = {
  trackSid?: string; gapMs?: number | undefined; stats?: object[]; capabilities?: object; unsupported?: string[];
};
/** A Reply, but for its command's id. */
export type Answer = { status: `COMMAND_STATUS_${Status}`; consent?: string; detail?: string; result?: Result };

export const UTF8 = new TextEncoder();

/** A command that is not done. */
export class Refusal extends Error {
  constructor(readonly status: Status, detail: string, readonly commandId = "") {
    super(detail);
  }
}
