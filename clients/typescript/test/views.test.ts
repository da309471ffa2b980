/* What live() returns, in virtual time. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { World } from "./harness.js";
import { hubIn, live, msg, ok } from "./world.js";

type Cursor = { epoch: string; offset: number };

/* A backend whose snapshot says which events it contains; each load waits until it is answered. */
function loader() {
  const waiting: { resolve(v: { data: number[]; cursor?: Cursor }): void; reject(e: unknown): void }[] = [];
  return {
    waiting,
    options: {
      load: () => new Promise<{ data: number[]; cursor?: Cursor }>((resolve, reject) => waiting.push({ resolve, reject })),
      apply: (state: number[], { offset }: { offset: number }) => [...state, offset],
    },
  };
}

test("live joins snapshot and events without a gap or a double, whenever the snapshot was taken", async () => {
  for (const taken of [3, 4, 5, 7]) {
    const world = new World();
    const hub = hubIn(world);
    const { waiting, options } = loader();
    const view = hub.channel("c").live(options);
    const seen: string[] = [];
    view.subscribe(({ freshness }) => seen.push(freshness));
    await world.welcome();
    assert.equal(waiting.length, 0, "loads only once the channel is joined");
    world.socket.push(ok("c", 4), live("c", 4), msg("c", 5, 0));
    await world.settle();
    world.socket.push(msg("c", 6, 0));
    const data = Array.from({ length: taken }, (_, n) => n + 1);
    waiting[0]?.resolve({ data, cursor: { epoch: "e1", offset: taken } });
    await world.settle();
    if (taken < 4) {
      assert.deepEqual(world.socket.sent.shift(), { t: "sub", i: 1, ch: "c", e: "e1", o: 3, mode: "every" });
      world.socket.push(ok("c", 3, "full"), msg("c", 4, 0), msg("c", 5, 0), msg("c", 6, 0), live("c", 6));
    }
    world.socket.push(msg("c", 7, 0), msg("c", 8, 0));
    await world.settle();
    assert.deepEqual(view.get().data, [1, 2, 3, 4, 5, 6, 7, 8], "taken at " + taken);
    assert.equal(view.get().freshness, "live");
    assert.equal(seen[0], "catching-up");
  }
});

test("live loads again after reset and gap, not after a plain resume, and again when load fails", async () => {
  const world = new World();
  const hub = hubIn(world);
  const { waiting, options } = loader();
  const view = hub.channel("c").live(options);
  view.subscribe(() => {});
  await world.welcome();
  world.socket.push(ok("c", 0), live("c", 0));
  await world.settle();
  waiting.shift()?.reject(new Error("no"));
  await world.settle();
  assert.match(String(view.get().error), /no/);
  await world.advance(250);
  waiting.shift()?.resolve({ data: [] });
  await world.settle();
  world.socket.push(msg("c", 1, 0));
  await world.settle();
  assert.deepEqual(view.get(), { data: [1], error: undefined, freshness: "live" });

  world.socket.cut();
  await world.settle();
  assert.deepEqual(view.get(), { data: [1], error: undefined, freshness: "stale", since: world.now });
  await world.advance(250);
  await world.welcome({ resumed: true });
  world.socket.push(ok("c", 1, "full"), msg("c", 2, 0), live("c", 2, 1));
  await world.settle();
  assert.equal(waiting.length, 0);
  assert.deepEqual(view.get().data, [1, 2]);

  world.socket.push({ t: "gap", ch: "c", from: 3, to: 9, reason: "not_kept" }, msg("c", 10, 0));
  await world.settle();
  assert.equal(view.get().freshness, "catching-up");
  waiting.shift()?.resolve({ data: [3], cursor: { epoch: "e1", offset: 9 } });
  await world.settle();
  assert.deepEqual(view.get().data, [3, 10]);

  world.socket.push(ok("c", 0, "reset", "e2"), live("c", 0));
  await world.settle();
  waiting.shift()?.resolve({ data: [] });
  await world.settle();
  world.socket.push(msg("c", 1, 0));
  await world.settle();
  assert.deepEqual(view.get().data, [1]);
});

test("a view that moves the channel back shows handlers nothing twice", async () => {
  const world = new World();
  const hub = hubIn(world);
  const got: number[] = [];
  hub.channel("c").on("*", ({ offset }) => got.push(offset));
  const { waiting, options } = loader();
  await world.welcome();
  world.socket.push(ok("c", 4), live("c", 4), msg("c", 5, 0));
  const view = hub.channel("c").live(options);
  view.subscribe(() => {});
  await world.settle();
  waiting[0]?.resolve({ data: [], cursor: { epoch: "e1", offset: 3 } });
  await world.settle();
  world.socket.push(ok("c", 3, "full"), msg("c", 4, 0), msg("c", 5, 0), live("c", 5), msg("c", 6, 0));
  await world.settle();
  assert.deepEqual(view.get().data, [4, 5, 6]);
  assert.deepEqual(got.filter((o) => o > 4), [5, 6]);
});

test("a view watched again within the linger goes on; after it, the channel and its data are gone", async () => {
  const world = new World();
  const hub = hubIn(world);
  const view = hub.channel("s").live<number>({ mode: "latest" });
  const end = view.subscribe(() => {});
  await world.welcome();
  world.socket.push(ok("s", 0), { t: "state", ch: "s", items: [], more: false }, live("s", 0), msg("s", 1, 5, { k: "a" }));
  await world.settle();
  end();
  await world.advance(1_000);
  const again = view.subscribe(() => {});
  await world.advance(9_000);
  assert.equal(world.socket.sent.filter(({ t }) => t !== "ack").length, 0);
  assert.deepEqual([...view.get().data], [["a", 5]]);
  again();
  await world.advance(2_000);
  assert.deepEqual(world.socket.sent.filter(({ t }) => t !== "ack"), [{ t: "unsub", i: 1, ch: "s" }]);
});

test("keyed state beside a handler: the mode is every, the state comes by request, a rewind reads it again", async () => {
  const world = new World();
  const hub = hubIn(world);
  hub.channel("s").on("*", () => {});
  await world.welcome();
  world.socket.push(ok("s", 3), live("s", 3));
  const view = hub.channel("s").live<number>({ mode: "latest", maxHz: 10 });
  view.subscribe(() => {});
  await world.settle();
  assert.deepEqual(world.socket.sent.splice(0), [{ t: "state", i: 1, ch: "s" }]);
  world.socket.push(msg("s", 4, 40, { k: "a" }), msg("s", 5, null, { k: "b", del: true }));
  world.socket.push({ t: "ok", i: 1, e: "e1", o: 5, items: [{ o: 1, k: "a", d: 10, ts: 1 }, { o: 2, k: "b", d: 20, ts: 1 }], more: true });
  await world.settle();
  assert.deepEqual(world.socket.sent.splice(0), [{ t: "state", i: 2, ch: "s", from: 3 }]);
  world.socket.push({ t: "ok", i: 2, e: "e1", o: 5, items: [{ o: 3, k: "c", d: 30, ts: 1 }], more: false });
  await world.advance(100);
  assert.deepEqual([...view.get().data], [["a", 40], ["c", 30]]);
  assert.equal(view.item("c")?.offset, 3);
  world.socket.push({ t: "rewind", ch: "s", e: "e2", to: 3, lost: 2 });
  await world.settle();
  assert.deepEqual(world.socket.sent.splice(0), [{ t: "state", i: 3, ch: "s" }]);
  world.socket.push({ t: "ok", i: 3, e: "e2", o: 3, items: [{ o: 1, k: "a", d: 10, ts: 1 }, { o: 2, k: "b", d: 20, ts: 1 }, { o: 3, k: "c", d: 30, ts: 1 }], more: false });
  await world.advance(100);
  assert.deepEqual([...view.get().data].sort(), [["a", 10], ["b", 20], ["c", 30]]);
});

test("maxHz holds for the view too, and the last value always comes", async () => {
  const world = new World();
  const hub = hubIn(world);
  const told: number[] = [];
  hub.channel("s").live<number>({ mode: "latest", maxHz: 10 }).subscribe(({ data }) => told.push(data.get("a") ?? -1));
  const hello = await world.welcome();
  assert.deepEqual(hello.subs, [{ ch: "s", state: true, mode: "latest", hz: 10 }]);
  world.socket.push(ok("s", 0), { t: "state", ch: "s", items: [], more: false }, live("s", 0));
  await world.advance(100);
  told.length = 0;
  for (let o = 1; o <= 20; o++) {
    world.socket.push(msg("s", o, o, { k: "a" }));
    await world.advance(10);
  }
  await world.advance(100);
  assert.ok(told.length <= 4, String(told));
  assert.equal(told.at(-1), 20);
});

test("a snapshot cut off by the connection is read again beside the resume", async () => {
  const world = new World();
  const hub = hubIn(world);
  const view = hub.channel("s").live<number>({ mode: "latest" });
  view.subscribe(() => {});
  await world.welcome();
  world.socket.push(ok("s", 2), { t: "state", ch: "s", items: [{ o: 1, k: "a", d: 1, ts: 1 }], more: true });
  world.socket.cut();
  await world.advance(250);
  await world.welcome({ resumed: true });
  world.socket.push(ok("s", 2, "full"));
  await world.settle();
  assert.deepEqual(world.socket.sent.splice(0), [{ t: "state", i: 1, ch: "s" }]);
  world.socket.push(live("s", 2), { t: "ok", i: 1, e: "e1", o: 2, items: [{ o: 1, k: "a", d: 1, ts: 1 }, { o: 2, k: "b", d: 2, ts: 1 }], more: false });
  await world.settle();
  assert.deepEqual([...view.get().data], [["a", 1], ["b", 2]]);
});

test("a keyed view tells nothing of a state it does not hold whole, and asks again where reading it failed", async () => {
  const world = new World();
  const hub = hubIn(world);
  hub.channel("s").on("*", () => {});
  await world.welcome();
  world.socket.push(ok("s", 3), live("s", 3));
  const view = hub.channel("s").live<number>({ mode: "latest" });
  const told: [string[], string][] = [];
  view.subscribe(({ data, freshness }) => told.push([[...data.keys()], freshness]));
  world.socket.push(msg("s", 4, 40, { k: "a" }));
  await world.settle();
  assert.equal(view.item("a"), undefined);
  world.socket.sent.length = 0;
  world.socket.push({ t: "error", i: 1, code: 429, name: "rate_limited", text: "", retry: 100 });
  await world.settle();
  assert.equal((view.get().error as { code: number }).code, 429);
  await world.advance(250);
  assert.deepEqual(world.socket.sent.splice(0), [{ t: "state", i: 2, ch: "s" }]);
  world.socket.push({ t: "ok", i: 2, e: "e1", o: 4, items: [{ o: 3, k: "b", d: 3, ts: 1 }], more: false });
  await world.settle();
  assert.ok(told.slice(0, -1).every(([keys, freshness]) => keys.length === 0 && freshness === "catching-up"), JSON.stringify(told));
  assert.deepEqual(told.at(-1), [["a", "b"], "live"]);
  assert.equal(view.get().error, undefined);
  world.socket.push({ t: "gap", ch: "s", from: 5, to: 6, reason: "not_kept" }, msg("s", 7, 70, { k: "c" }));
  await world.settle();
  assert.deepEqual(told.at(-1), [["a", "b"], "catching-up"]);
  world.socket.push({ t: "ok", i: 3, e: "e1", o: 7, items: [{ o: 7, k: "c", d: 70, ts: 1 }], more: false });
  await world.settle();
  assert.deepEqual(told.at(-1)?.[1], "live");
});

test("an expired key is hidden on time, and a state nobody looks at is not kept", async () => {
  const world = new World();
  const hub = hubIn(world);
  hub.channel("s").on("*", () => {});
  const view = hub.channel("s").live<number>({ mode: "latest" });
  const end = view.subscribe(() => {});
  await world.welcome();
  world.socket.push(ok("s", 0), { t: "state", ch: "s", items: [], more: false }, live("s", 0));
  world.socket.push(msg("s", 1, 1, { k: "a", exp: world.now + 500 }), msg("s", 2, 2, { k: "b" }));
  await world.settle();
  assert.deepEqual([...view.get().data.keys()], ["a", "b"]);
  await world.advance(500);
  assert.deepEqual([...view.get().data.keys()], ["b"]);
  end();
  await world.advance(2_000);
  world.socket.sent.length = 0;
  view.subscribe(() => {});
  await world.settle();
  assert.deepEqual(world.socket.sent.map(({ t }) => t), ["state"]);
});

test("presence: entering, changing and leaving replace me on the one subscription", async () => {
  const world = new World();
  const hub = hubIn(world);
  const room = hub.channel("room:1");
  room.on("*", () => {});
  await world.welcome();
  world.socket.push(ok("room:1", 0), live("room:1", 0));
  const answer = (i: number): void => world.socket.push({ ...ok("room:1", 0, "full"), i }, live("room:1", 0));
  room.presence.enter({ name: "Ana" });
  await world.settle();
  assert.deepEqual(world.socket.sent.splice(0), [{ t: "sub", i: 1, ch: "room:1", e: "e1", o: 0, mode: "every", me: { name: "Ana" } }]);
  answer(1);
  room.presence.enter({ name: "Bo" });
  await world.settle();
  assert.deepEqual(world.socket.sent.splice(0), [{ t: "sub", i: 2, ch: "room:1", e: "e1", o: 0, mode: "every", me: { name: "Bo" } }]);
  answer(2);
  hub.channel("room:1").presence.leave();
  await world.advance(2_000);
  assert.deepEqual(world.socket.sent.splice(0), [{ t: "sub", i: 3, ch: "room:1", e: "e1", o: 0, mode: "every" }]);
  assert.throws(() => room.presence.enter("x".repeat(2_000)), { code: 413 });
});
