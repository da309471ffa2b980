/*
 * Says whether a decoded map is a frame this library understands. Called by both codecs for each inbound frame.
 * Unknown keys pass, unknown types are `null`; it never repairs a frame.
 */
import type { Push } from "./frames.js";

/* The keys a frame cannot do without. */
const NEEDED: Record<string, string> = {
  welcome: "session hb ts resumed",
  ok: "",
  error: "code name",
  msg: "ch o ts",
  state: "ch items",
  live: "ch o n",
  gap: "ch from to reason",
  rewind: "ch e to lost",
  stale: "since",
  unsub: "ch code name",
  auth: "exp",
  move: "in by",
  ping: "",
  bye: "code name",
};
/* What a key holds, in whatever frame it stands: text, a whole number from 0 to 2^53-1, a truth value. */
const TEXT = /^(ch|e|k|ev|id|key|user|node|name|text|reason|rec|ack)$/;
const NUMBER = /^(i|o|n|ts|exp|ttl|from|to|lost|since|code|hb|in|retry|attempt)$/;
const TRUTH = /^(dup|del|more|resumed)$/;

type Map = Record<string, unknown>;
const isMap = (value: unknown): value is Map => typeof value === "object" && value !== null && !Array.isArray(value);

function holds(key: string, value: unknown): boolean {
  if (TEXT.test(key)) return typeof value === "string";
  if (NUMBER.test(key)) return Number.isSafeInteger(value) && (value as number) >= 0;
  if (TRUTH.test(key)) return typeof value === "boolean";
  if (key === "items") return Array.isArray(value) && value.every((item) => conforms(item, "o ts"));
  if (key === "session") return conforms(value, "id key");
  return key !== "b" || value instanceof Uint8Array;
}

function conforms(map: unknown, needed: string): boolean {
  if (!isMap(map)) return false;
  for (const key of needed.split(" ")) if (key && map[key] === undefined) return false;
  return Object.entries(map).every(([key, value]) => value === undefined || holds(key, value));
}

/** The frame itself; `null` for a type this version does not know; throws for a malformed one. */
export function checked(frame: unknown): Push | null {
  if (!isMap(frame) || typeof frame.t !== "string") throw new TypeError("not a frame");
  if (!Object.hasOwn(NEEDED, frame.t)) return null;
  if (!conforms(frame, NEEDED[frame.t] as string)) throw new TypeError("malformed " + frame.t);
  return frame as unknown as Push;
}
