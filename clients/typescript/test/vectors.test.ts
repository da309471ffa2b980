/* The pure modules against the language-neutral vectors: backoff, close codes, both codecs. */
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { backoff } from "../src/core/backoff.js";
import { afterClose, type Ending } from "../src/core/close.js";
import { msgpack, unpack } from "../src/msgpack.js";
import { fromBase64, toBase64 } from "../src/protocol/base64.js";
import type { Command, Push } from "../src/protocol/frames.js";
import { json } from "../src/protocol/json.js";
import { VECTORS } from "./vectors.js";

const read = (path: string): unknown => JSON.parse(readFileSync(VECTORS + path, "utf8"));

test("backoff vectors", () => {
  const { cases } = read("backoff.json") as { cases: { failures: number; random: number; retry?: number; ms: number }[] };
  assert.ok(cases.length > 10);
  for (const { failures, random, retry, ms } of cases) assert.equal(backoff(failures, random, retry), ms, `${failures} ${random} ${retry}`);
});

test("close vectors", () => {
  const { cases } = read("close.json") as { cases: (Ending & { action: string })[] };
  assert.ok(cases.length > 20);
  for (const { action, ...ending } of cases) assert.equal(afterClose(ending), action, JSON.stringify(ending));
});

interface Vector {
  name: string;
  dir: "command" | "push";
  json?: string;
  msgpack_hex?: string;
  expect: "ok" | "ignore" | "reject";
  model?: Record<string, unknown>;
  /** Instead of `model`, where the message holds several frames. */
  models?: Record<string, unknown>[];
}

/* The model says bytes in base64, as JSON does. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return toBase64(value);
  if (Array.isArray(value)) return value.map(plain);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
  return value;
}
const only = (frame: Record<string, unknown>, model: Record<string, unknown>): unknown =>
  Object.fromEntries(Object.keys(model).map((key) => [key, frame[key]]));

/* This client reads pushes and writes commands; what a node must refuse in a command is none of its business. */
function check(vector: Vector, decode: () => Push[], encode: (frame: Command) => Push | unknown): void {
  const { dir, expect, model } = vector;
  if (dir === "push") {
    if (expect === "reject") assert.throws(decode);
    else if (expect === "ignore") assert.deepEqual(decode(), []);
    else {
      const models = vector.models ?? [model ?? {}];
      const frames = decode().map((frame, n) => only(plain(frame) as Record<string, unknown>, models[n] ?? {}));
      assert.deepEqual(frames, models);
    }
  } else if (expect === "ok" && model) {
    const b = typeof model.b === "string" ? { b: fromBase64(model.b) } : {};
    assert.deepEqual(only(encode({ ...model, ...b } as unknown as Command) as Record<string, unknown>, model), model);
  }
}

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "hex"));
const files = readdirSync(VECTORS + "codec").filter((file) => file.endsWith(".json"));
assert.ok(files.length > 0, "codec vectors are missing");
for (const file of files) {
  test("codec vectors in " + file, async (t) => {
    const content = read("codec/" + file) as Vector[] | { cases: Vector[] };
    const vectors = Array.isArray(content) ? content : content.cases;
    assert.ok(vectors.length > 0);
    for (const vector of vectors)
      await t.test(vector.name, () => {
        const { json: text, msgpack_hex } = vector;
        if (text !== undefined) check(vector, () => json.decode(text), (frame) => JSON.parse(json.encode(frame) as string));
        if (msgpack_hex !== undefined) check(vector, () => msgpack.decode(hex(msgpack_hex)), (frame) => plain(unpack(msgpack.encode(frame) as Uint8Array)[0]));
      });
  });
}

test("one message carries several frames in both encodings", () => {
  const ping = { t: "ping" };
  assert.deepEqual(json.decode('{"t":"ping"}\n{"t":"later"}\n{"t":"ping"}\n'), [ping, ping]);
  assert.deepEqual(msgpack.decode(hex("81a174a470696e67".repeat(2))), [ping, ping]);
});

test("commands of the vectors encode to the very bytes where the key order is the model's", () => {
  for (const { dir, model, msgpack_hex, json: text } of read("codec/ts-basics.json") as Vector[]) {
    if (dir !== "command" || !model || typeof model.b === "string") continue;
    assert.equal(Buffer.from(msgpack.encode(model as unknown as Command) as Uint8Array).toString("hex"), msgpack_hex);
    assert.deepEqual(JSON.parse(json.encode(model as unknown as Command) as string), JSON.parse(text as string));
  }
});

test("MessagePack writes nothing that JSON could not say", () => {
  const pub = (d: unknown): Command => ({ t: "pub", ch: "c", d });
  for (const d of [NaN, Infinity, "\ud800", new Uint8Array(1), [new Uint8Array(1)], 1n, Symbol.iterator])
    assert.throws(() => msgpack.encode(pub(d)), TypeError);
  const loop: unknown[] = [];
  loop.push(loop);
  assert.throws(() => msgpack.encode(pub(loop)), TypeError);
});

test("base64 goes both ways and refuses what is none", () => {
  for (let n = 0; n < 70; n++) {
    const bytes = Uint8Array.from({ length: n }, (_, i) => (i * 37 + n) & 255);
    assert.equal(toBase64(bytes), Buffer.from(bytes).toString("base64"));
    assert.deepEqual(fromBase64(toBase64(bytes)), bytes);
  }
  for (const text of ["a", "ab=c", "====", "a b=", "\u00e4bcd", "YQ"]) assert.throws(() => fromBase64(text), TypeError, text);
});
