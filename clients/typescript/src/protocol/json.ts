/*
 * The JSON encoding (`tidewire.v1.json`): one frame a line. Pure; the connection calls it.
 * It never keeps a decoder between messages: a frame never spans two of them.
 */
import { fromBase64, toBase64 } from "./base64.js";
import { checked } from "./check.js";
import type { Command, Encoding, Push } from "./frames.js";

function bytesIn(frame: Record<string, unknown>): void {
  if (typeof frame.b === "string") frame.b = fromBase64(frame.b);
  if (Array.isArray(frame.items)) for (const item of frame.items) if (item) bytesIn(item as Record<string, unknown>);
}

/** A frame with its bytes as base64, as JSON carries it. */
export function asJson(frame: object): object {
  const { b } = frame as { b?: unknown };
  return b instanceof Uint8Array ? { ...frame, b: toBase64(b) } : frame;
}

export const json: Encoding = {
  protocol: "tidewire.v1.json",
  encode: (frame: Command) => JSON.stringify(asJson(frame)),
  decode(message) {
    if (typeof message !== "string") throw new TypeError("not text");
    const frames: Push[] = [];
    for (const line of message.split("\n")) {
      if (!line) continue;
      const frame = JSON.parse(line);
      if (frame) bytesIn(frame);
      const known = checked(frame);
      if (known) frames.push(known);
    }
    return frames;
  },
};
