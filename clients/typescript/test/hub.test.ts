/* The hub as an application meets it, in virtual time. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Forbidden, createHub, type Message } from "../src/index.js";
import { msgpack } from "../src/msgpack.js";
import { World } from "./harness.js";
import { hubIn, live, msg, ok } from "./world.js";

test("nothing is opened before the hub is used, and everything is gone after close", async () => {
  const world = new World();
  const hub = hubIn(world);
  await world.settle();
  assert.equal(world.sockets.length, 0);
  hub.channel("chat:1").on("*", () => {});
  await world.welcome();
  assert.equal(world.socket.url, "wss://rt.example.com/v1/connect");
  hub.close();
  await world.settle();
  assert.equal(world.pendingTimers, 0);
  assert.equal(world.socket.closedWith, 1000);
  hub.connect();
  await world.advance(60_000);
  assert.equal(world.sockets.length, 1);
  await assert.rejects(hub.channel("chat:1").publish("x", 1).acked, { name: "closed" });
});

test("using a channel neither shortens the wait nor undoes blocked nor wakes a page put away", async () => {
  const world = new World();
  const hub = hubIn(world);
  hub.connect();
  await world.settle();
  world.socket.cut();
  hub.channel("c").on("*", () => {});
  hub.channel("c").publish("x", 1);
  await world.settle();
  assert.equal(world.sockets.length, 1);
  await world.advance(250);
  await world.lifecycle("freeze");
  hub.channel("d").on("*", () => {});
  await world.advance(60_000);
  assert.equal(world.sockets.length, 2);
  await world.lifecycle("resume");
  await world.welcome();
  world.socket.push({ t: "bye", code: 4403, name: "forbidden" });
  hub.channel("e").on("*", () => {});
  await world.advance(60_000);
  assert.equal(world.sockets.length, 3);
  assert.equal(hub.status.get().state, "blocked");
});

test("addresses", async () => {
  for (const [url, wanted] of [
    ["https://h", "wss://h/v1/connect"],
    ["http://127.0.0.1:8080/", "ws://127.0.0.1:8080/v1/connect"],
    ["wss://h/hub?x=1", "wss://h/hub?x=1"],
  ] as const) {
    const world = new World();
    const hub = createHub({ url, environment: world.env });
    hub.connect();
    const hello = await world.welcome();
    assert.equal(world.socket.url, wanted);
    assert.ok(!("token" in hello));
  }
  assert.throws(() => createHub({ url: "rt.example.com" }), TypeError);
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

test("one subscription serves all handlers of a name, event names select, a throwing handler harms nobody", async () => {
  const world = new World();
  const hub = hubIn(world);
  const got: string[] = [];
  const first = hub.channel("chat:1").on("said", () => got.push("first"));
  hub.channel("chat:1").on("said", () => {
    throw new Error("application's own");
  });
  hub.channel("chat:1").on("*", ({ event }) => got.push("any " + event));
  const hello = await world.welcome();
  assert.deepEqual(hello.subs, [{ ch: "chat:1", mode: "every" }]);
  world.socket.push(ok("chat:1", 0), live("chat:1", 0));
  world.socket.push(msg("chat:1", 1, "x", { ev: "said" }), msg("chat:1", 2, "x", { ev: "left" }));
  first();
  world.socket.push(msg("chat:1", 3, "x", { ev: "said" }));
  assert.deepEqual(got, ["first", "any said", "any left", "any said"]);
  assert.equal(world.errors.length, 2);
  await world.advance(60_000);
  assert.deepEqual(world.socket.sent.filter(({ t }) => t === "unsub"), []);
});

test("the cursor has moved before a handler runs, and a handler may end itself", async () => {
  const world = new World();
  const hub = hubIn(world);
  const positions: unknown[] = [];
  const off = hub.channel("c").on("*", () => {
    positions.push(hub.position("c"));
    off();
  });
  await world.welcome();
  world.socket.push(ok("c", 0), live("c", 0), msg("c", 1, 1), msg("c", 2, 2));
  assert.deepEqual(positions, [{ epoch: "e1", offset: 1 }]);
});

test("a handler that joins later gets its last publications in order before what comes meanwhile, the others nothing twice", async () => {
  const world = new World();
  const hub = hubIn(world);
  const first: number[] = [];
  hub.channel("c").on("*", ({ offset }) => first.push(offset));
  await world.welcome();
  world.socket.push(ok("c", 7), live("c", 7));
  const got: number[] = [];
  const gaps: unknown[] = [];
  hub.on("gap", (gap) => gaps.push(gap));
  hub.channel("c").on("*", ({ offset }) => got.push(offset), { last: 2 });
  await world.settle();
  assert.deepEqual(world.socket.sent.splice(0), [{ t: "sub", i: 1, ch: "c", e: "e1", o: 5, last: 2, mode: "every" }]);
  world.socket.push(msg("c", 8, 8));
  world.socket.push({ ...ok("c", 5, "full"), i: 1 }, { t: "gap", ch: "c", from: 6, to: 6, reason: "expired" }, msg("c", 7, 7), msg("c", 8, 8), live("c", 8));
  world.socket.push(msg("c", 9, 9));
  assert.deepEqual(got, [7, 8, 9]);
  assert.deepEqual(first, [8, 9]);
  assert.deepEqual(gaps, []);
});

test("tokens: one call for many wants, Forbidden stops, another error is tried again, connect() starts anew", async () => {
  const world = new World();
  const answers: (() => string)[] = [
    () => {
      throw new Error("the backend is away");
    },
    () => "good",
    () => {
      throw new Forbidden();
    },
    () => "better",
  ];
  const reasons: string[] = [];
  const hub = hubIn(world, {
    token: async ({ reason }) => {
      reasons.push(reason);
      return (answers.shift() as () => string)();
    },
  });
  hub.connect();
  hub.connect();
  await world.settle();
  assert.deepEqual(hub.status.get(), { state: "offline", retryAt: world.now + 250, code: 0, name: "token_failed" });
  await world.advance(250);
  const hello = await world.welcome();
  assert.equal(hello.token, "good");
  const { acked } = hub.channel("c").publish("x", 1);
  world.socket.push({ t: "bye", code: 4401, name: "unauthenticated" });
  await world.settle();
  assert.deepEqual(hub.status.get(), { state: "blocked", code: 4403, name: "forbidden" });
  await assert.rejects(acked, { code: 403, name: "forbidden" });
  await assert.rejects(hub.channel("c").history(), { name: "forbidden" });
  hub.connect();
  assert.equal((await world.welcome()).token, "better");
  assert.equal(hub.status.get().state, "online");
  assert.deepEqual(reasons, ["connect", "connect", "unauthenticated", "unauthenticated"]);
});

test("a token is renewed before it expires even where the node does not ask", async () => {
  const world = new World();
  let n = 0;
  const hub = hubIn(world, { token: () => "t" + ++n });
  hub.connect();
  await world.welcome({ exp: world.now + 100_000, ts: world.now, hb: 200 });
  await world.advance(89_999);
  assert.deepEqual(world.socket.sent, []);
  await world.advance(1);
  assert.deepEqual(world.socket.sent, [{ t: "auth", i: 1, token: "t2" }]);
});

test("a source that gives an expiring token again does not make the connection spin", async () => {
  const world = new World();
  const hub = hubIn(world, { token: "fixed" });
  hub.connect();
  const exp = world.now + 10_000;
  await world.welcome({ exp, hb: 200 });
  for (let second = 0; second < 40; second++) {
    await world.advance(1_000);
    for (const { i } of world.socket.sent) if ((i as number) > second) world.socket.push({ t: "ok", i, exp });
  }
  assert.ok(world.socket.sent.length <= 8, String(world.socket.sent.length));
});

test("the outbox is bounded, can be looked at and cleared, and gives up in time", async () => {
  const world = new World();
  const hub = hubIn(world);
  const room = hub.channel("c");
  const all = Array.from({ length: 256 }, (_, n) => room.publish("x", n));
  await assert.rejects(room.publish("x", "too many").acked, { name: "outbox_full" });
  await assert.rejects(room.publish("x", "a".repeat(50_000)).acked, { code: 413, name: "too_large" });
  assert.equal(hub.outbox.items().length, 256);
  assert.deepEqual(hub.outbox.items()[3], { id: all[3]?.id, channel: "c", event: "x", data: 3, sent: false });
  assert.equal(hub.outbox.clear(), 256);
  await assert.rejects(all[0]?.acked as Promise<unknown>, { name: "cleared" });
  const short = room.publish("x", 1, { queueFor: "5s" });
  await world.advance(5_000);
  await assert.rejects(short.acked, { name: "expired" });
});

test("what was sent but never answered ends with an unknown outcome before the node could forget its id", async () => {
  const world = new World();
  const hub = hubIn(world);
  hub.connect();
  await world.welcome({ hb: 200 });
  const { acked } = hub.channel("c").publish("x", 1, { queueFor: "1h" });
  const ended = assert.rejects(acked, { name: "outcome_unknown" });
  await world.advance(120_000);
  await ended;
});

test("bytes, options and removal of a key travel as the protocol says", async () => {
  const world = new World();
  const hub = hubIn(world);
  hub.connect();
  await world.welcome();
  const room = hub.channel("c");
  room.publish("raw", new Uint8Array([1, 2]), { id: "a" });
  room.set("eta", 5, { id: "b", ttl: "30s", guard: { epoch: "e1", offset: 3 } });
  room.set("eta", null, { id: "c", delete: true });
  assert.deepEqual(world.socket.sent, [
    { t: "pub", i: 1, ch: "c", id: "a", b: "AQI=", ev: "raw" },
    { t: "pub", i: 2, ch: "c", id: "b", d: 5, k: "eta", ttl: 30_000, if: { e: "e1", o: 3 } },
    { t: "pub", i: 3, ch: "c", id: "c", k: "eta", del: true },
  ]);
  assert.throws(() => hub.channel(" padded"), { code: 400 });
  assert.throws(() => hub.channel("a\nb"), { code: 400 });
  assert.throws(() => hub.channel("ä".repeat(101)), { code: 400 });
});

test("data that cannot be published rejects, and what is published is what it was at the time", async () => {
  const world = new World();
  const hub = hubIn(world, { encoding: msgpack });
  const room = hub.channel("c");
  const data = { n: 1 };
  room.publish("x", data, { id: "a" });
  data.n = 2;
  const loop: unknown[] = [];
  loop.push(loop);
  await assert.rejects(room.publish("x", loop).acked, TypeError);
  await assert.rejects(room.publish("x", 1n).acked, TypeError);
  const lone = room.publish("x", "\ud800");
  const after = room.publish("x", "fine", { id: "b" });
  await world.settle();
  world.socket.open("tidewire.v1.msgpack");
  await assert.rejects(lone.acked, { code: 400, name: "bad_request" });
  assert.deepEqual(world.socket.sent.slice(1).map(({ id, d }) => [id, d]), [["a", { n: 1 }], ["b", "fine"]]);
  hub.close();
  await assert.rejects(after.acked, { name: "closed" });
});

test("what is subscribed to and left while a move is under way is told to the new connection", async () => {
  const world = new World();
  const hub = hubIn(world);
  const leave = hub.channel("old").on("*", () => {});
  hub.channel("kept").on("*", () => {});
  await world.welcome();
  world.socket.push(ok("old", 0), live("old", 0), ok("kept", 0), live("kept", 0), { t: "move", in: 0, by: 9_000 });
  await world.advance(0);
  const [before, after] = world.sockets;
  after?.open();
  leave();
  hub.channel("new").on("*", () => {});
  const page = hub.channel("kept").history();
  await world.advance(2_000);
  assert.deepEqual(before?.sent.map(({ t }) => t), ["history", "sub", "unsub"]);
  after?.sent.shift();
  world.socket.push({ t: "welcome", session: { id: "s1", key: "k1", ttl: 1 }, resumed: true, hb: 25, ts: 1 });
  await world.settle();
  assert.deepEqual(after?.sent.map(({ t, ch }) => [t, ch]).sort(), [["history", "kept"], ["sub", "new"], ["unsub", "old"]]);
  world.socket.push({ t: "ok", i: 1, e: "e1", items: [], more: false });
  assert.deepEqual((await page).items, []);
});

test("a channel the token subscribed us to waits at its start for the first reader", async () => {
  const world = new World();
  const hub = hubIn(world);
  hub.connect();
  await world.welcome();
  world.socket.push(ok("inbox:ana", 4), live("inbox:ana", 4), msg("inbox:ana", 5, "early"));
  hub.channel("inbox:ana").on("*", () => {});
  await world.settle();
  assert.deepEqual(world.socket.sent, [{ t: "sub", i: 1, ch: "inbox:ana", e: "e1", o: 4, mode: "every" }]);
});

test("a subscription refused for the moment is asked again from its position; a fresh token asks for what was forbidden", async () => {
  const world = new World();
  let n = 0;
  const hub = hubIn(world, { token: () => "t" + ++n });
  const refused: unknown[] = [];
  hub.on("refused", ({ channel, error }) => refused.push([channel, error.code]));
  hub.channel("c").on("*", () => {});
  hub.channel("secret").on("*", () => {});
  await world.welcome();
  world.socket.push(ok("c", 3), live("c", 3), { t: "unsub", ch: "secret", code: 403, name: "forbidden" });
  world.socket.push({ t: "unsub", ch: "c", code: 503, name: "unavailable" });
  await world.advance(250);
  assert.deepEqual(world.socket.sent.shift(), { t: "sub", i: 1, ch: "c", e: "e1", o: 3, mode: "every" });
  assert.deepEqual(refused, [["secret", 403]]);
  world.socket.push({ t: "auth", exp: world.now + 60_000 });
  await world.settle();
  world.socket.push({ t: "ok", i: 2, exp: world.now + 600_000 });
  await world.settle();
  assert.deepEqual(world.socket.sent.map(({ t, ch }) => [t, ch]), [["auth", undefined], ["sub", "secret"]]);
});

test("history goes both ways and gives data as messages", async () => {
  const world = new World();
  const hub = hubIn(world);
  hub.connect();
  await world.welcome();
  const first = hub.channel("c").history({ after: { epoch: "e1", offset: 2 }, limit: 2 });
  assert.deepEqual(world.socket.sent.shift(), { t: "history", i: 1, ch: "c", e: "e1", after: 2, n: 2 });
  world.socket.push({ t: "ok", i: 1, e: "e1", items: [{ o: 3, d: 3, ts: 9, by: "bo" }, { o: 4, b: "AQ==", ts: 9 }], more: true });
  const page = await first;
  assert.deepEqual(page.items.map(({ offset, data, by }: Message) => [offset, data, by]), [[3, 3, "bo"], [4, new Uint8Array([1]), undefined]]);
  const next = page.next();
  assert.deepEqual(world.socket.sent.shift(), { t: "history", i: 2, ch: "c", e: "e1", after: 4, n: 2 });
  world.socket.push({ t: "error", i: 2, code: 410, name: "history_gone", text: "" });
  await assert.rejects(next, { code: 410, name: "history_gone", retryable: false });
});

test("a request nobody answers ends with timeout", async () => {
  const world = new World();
  const page = hubIn(world).channel("c").history();
  const ended = assert.rejects(page, { name: "timeout", retryable: true });
  await world.advance(30_000);
  await ended;
});
