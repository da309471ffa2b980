/*
 * Says whether a decoded map is a frame this library understands. Called by both codecs for each inbound frame.
 * Unknown keys pass, unknown types are `null`; it never repairs a frame.
 */
import type { Push } from "./frames.js";

/* s text, n whole number from 0 to 2^53-1, b boolean, m map, a list of items; `?` may be absent. */
const ITEM = "o:n ts:n e?s k?s ev?s id?s by?s del?b exp?n";
const SHAPES: Record<string, string> = {
  welcome: "session:m hb:n ts:n resumed:b user?s max?m exp?n node?s",
  ok: "i?n ch?s e?s o?n rec?s dup?b items?a more?b exp?n",
  error: "i?n code:n name:s text?s retry?n e?s o?n",
  msg: "ch:s " + ITEM,
  state: "ch:s items:a more?b",
  live: "ch:s o:n n:n",
  gap: "ch:s from:n to:n reason:s",
  rewind: "ch:s e:s to:n lost:n",
  stale: "ch?s since:n",
  unsub: "ch:s code:n name:s",
  auth: "exp:n",
  move: "in:n by:n",
  ping: "",
  bye: "code:n name:s retry?n attempt?n",
};
const FIELD = /(\w+)([:?])(\w)/g;

const isMap = (v: unknown): v is Record<string, unknown> => typeof v === "object" && v !== null && !Array.isArray(v);

function fits(value: unknown, kind: string): boolean {
  if (kind === "s") return typeof value === "string";
  if (kind === "n") return Number.isSafeInteger(value) && (value as number) >= 0;
  if (kind === "b") return typeof value === "boolean";
  if (kind === "m") return isMap(value);
  return Array.isArray(value) && value.every((item) => conforms(item, ITEM) && body(item));
}

function conforms(value: unknown, shape: string): boolean {
  if (!isMap(value)) return false;
  for (const [, key, need, kind] of shape.matchAll(FIELD)) {
    const field = value[key as string];
    if (field === undefined ? need === ":" : !fits(field, kind as string)) return false;
  }
  return true;
}

/* Bytes are a `Uint8Array` by now, whatever carried them. */
const body = (item: Record<string, unknown>): boolean => item.b === undefined || item.b instanceof Uint8Array;

/** The frame itself; `null` for a type this version does not know; throws for a malformed one. */
export function checked(frame: unknown): Push | null {
  if (!isMap(frame) || typeof frame.t !== "string") throw new TypeError("not a frame");
  if (!Object.hasOwn(SHAPES, frame.t)) return null;
  if (!conforms(frame, SHAPES[frame.t] as string) || !body(frame)) throw new TypeError("malformed " + frame.t);
  const session = frame.session as Record<string, unknown> | undefined;
  if (frame.t === "welcome" && !conforms(session, "id:s key:s ttl:n")) throw new TypeError("malformed session");
  return frame as unknown as Push;
}
