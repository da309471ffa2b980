/* The hub as an application meets it, in virtual time. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createHub, type HubOptions } from "../src/index.js";
import { World } from "./harness.js";

const URL = "wss://rt.example.com";

function hubIn(world: World, options: Partial<HubOptions> = {}) {
  return createHub({ url: URL, token: "t", environment: world.env, ...options });
}

const msg = (ch: string, o: number, d: unknown, extra = {}) => ({ t: "msg", ch, o, d, ts: 1, ev: "msg", ...extra });

test("a first subscription travels in hello and its messages arrive once and in order", async () => {
  const world = new World();
  const hub = hubIn(world);
  const got: unknown[] = [];
  hub.channel("chat:1").on("msg", ({ data, offset, replayed }) => got.push([data, offset, replayed]));
  const hello = await world.welcome();
  assert.equal(world.socket.url, "wss://rt.example.com/v1/connect");
  assert.deepEqual(hello.subs, [{ ch: "chat:1", mode: "every" }]);
  world.socket.push({ t: "ok", ch: "chat:1", e: "e1", o: 4, rec: "fresh" }, { t: "live", ch: "chat:1", o: 4, n: 0 });
  world.socket.push(msg("chat:1", 5, "a"), msg("chat:1", 5, "a"), msg("chat:1", 6, "b"));
  assert.deepEqual(got, [["a", 5, false], ["b", 6, false]]);
  assert.deepEqual(hub.position("chat:1"), { epoch: "e1", offset: 6 });
  assert.equal(hub.status.get().state, "online");
  hub.close();
  await world.settle();
  assert.equal(world.pendingTimers, 0);
});

test("close settles every promise", async () => {
  const world = new World();
  const hub = hubIn(world);
  const room = hub.channel("chat:1");
  const { acked } = room.publish("msg", 1);
  const page = room.history({ limit: 3 });
  hub.close();
  await assert.rejects(acked, { name: "closed" });
  await assert.rejects(page, { name: "closed" });
  await assert.rejects(room.publish("msg", 2).acked, { name: "closed" });
  await assert.rejects(room.history(), { name: "closed" });
  assert.equal(hub.status.get().state, "closed");
});
