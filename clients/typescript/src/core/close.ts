/*
 * What the end of a connection means. Pure; proved by protocol/vectors/close.json. `bye` wins over the close code,
 * the code over its band (44xx stop, 45xx come back).
 */

/** Everything the decision rests on. */
export interface Ending {
  /** The `bye` code where there was one, else the WebSocket close code. */
  code: number;
  /** Whether `welcome` had come on this connection. */
  welcomed: boolean;
  /** Connections in a row that ended with 4401, before this one. */
  unauthenticated: number;
  /** `attempt` of a `bye 4409`: what the store holds. */
  attempt?: number | undefined;
  /** Whether the last hello was already a second try above such an `attempt`. */
  claimed: boolean;
  /** Takeovers (4409 that ended a session here) within the last 30 s, before this one. */
  replaced: number;
}
/** `resume`: back off, keep the session. `token`: at once, with a fresh token. `claim`: at once, above the stored attempt. `fresh`: at once, in a new session with the same positions. `blocked`: stop. */
export type Action = "resume" | "token" | "claim" | "fresh" | "blocked";

/** Three takeovers in 30 s: two programs fight for one session, and both would lose. */
export const REPLACED_MAX = 3;
export const REPLACED_WINDOW_MS = 30_000;

export function afterClose(end: Ending): Action {
  switch (end.code) {
    case 4401:
      return end.unauthenticated > 0 ? "blocked" : "token";
    case 4408:
    case 4429:
      return "resume";
    case 4409:
      if (!end.welcomed && end.attempt !== undefined && !end.claimed) return "claim";
      return end.replaced + 1 >= REPLACED_MAX ? "blocked" : "fresh";
    default:
      return end.code >= 4400 && end.code < 4500 ? "blocked" : "resume";
  }
}
