/* Runs the examples of README.md: all `ts` blocks together, as one program, against a world in virtual time. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { transform } from "esbuild";
import * as tidewire from "../src/index.js";
import { World } from "./harness.js";
import { live, msg, ok } from "./world.js";

test("the examples run", async () => {
  const blocks = [...readFileSync("README.md", "utf8").matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code as string);
  assert.ok(blocks.length >= 7);
  const source = blocks.join("\n").replace(/^import .*$/gm, "");
  const { code } = await transform(source, { loader: "ts" });
  const world = new World();
  const calls: unknown[][] = [];
  const spy = (name: string) => (...args: unknown[]) => void calls.push([name, ...args]);
  const given = {
    createHub: (options: tidewire.HubOptions) => tidewire.createHub({ ...options, environment: world.env }),
    defineChannels: tidewire.defineChannels,
    fetch: async (path: string) => ({ text: async () => path }),
    api: { order: async () => ({ v: 1 }) },
    ...Object.fromEntries(["banner", "show", "mark", "render", "draw", "list", "note"].map((name) => [name, spy(name)])),
  };
  const AsyncFunction = (async () => {}).constructor as new (...args: string[]) => (...args: unknown[]) => Promise<void>;
  const running = new AsyncFunction(...Object.keys(given), code)(...Object.values(given));
  const hello = await world.welcome();
  const { socket } = world;
  assert.equal(hello.token, "/rt-token?why=connect");
  const answered = new Set<unknown>();
  for (let turn = 0; turn < 10; turn++) {
    for (const { t, i, ch } of socket.sent.splice(0)) {
      answered.add(t);
      if (t === "pub") socket.push({ t: "ok", i, e: "e1", o: 1 });
      if (t === "history") socket.push({ t: "ok", i, e: "e1", items: [{ o: 1, d: 0, ts: 1 }], more: !answered.has("page") });
      if (t === "history") answered.add("page");
      if (t === "sub") socket.push({ ...ok(ch as string, 1), i }, live(ch as string, 1));
    }
    await world.settle();
  }
  await running;
  socket.push(ok("chat:7", 1), live("chat:7", 1), msg("chat:7", 2, "hello", { ev: "said" }), { t: "gap", ch: "chat:7", from: 3, to: 5, reason: "expired" });
  socket.push(msg("orders:42", 2, { v: 2 }));
  await world.advance(200);
  assert.deepEqual([...answered].sort(), ["history", "page", "pub", "sub"]);
  const named = (name: string): unknown[] => calls.filter(([n]) => n === name).at(-1)?.slice(1) ?? [];
  assert.deepEqual(named("show"), ["hello"]);
  assert.deepEqual(named("note"), ["3 to 5 are gone"]);
  assert.equal(named("banner")[0], "online");
  assert.deepEqual(named("render"), [{ v: 2 }, "live"]);
  assert.ok(named("draw")[0] instanceof Map);
  assert.ok(Array.isArray(named("list")[0]));
  assert.deepEqual(world.errors, []);
});
