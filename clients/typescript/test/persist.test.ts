/* What survives a page reload, in virtual time: two hubs over one storage stand for two lives of a page. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { World } from "./harness.js";
import { hubIn, live, msg, ok } from "./world.js";

/* A first life that reads "c" to offset 5, publishes once unanswered, and is put away. */
async function firstLife(world: World) {
  const hub = hubIn(world, { persist: "tab" });
  hub.channel("c").on("*", () => {});
  await world.welcome();
  world.socket.push(ok("c", 4), live("c", 4), msg("c", 5, 0));
  hub.channel("out").publish("x", new Uint8Array([7]), { id: "p-1", queueFor: "1m" });
  await world.lifecycle("pagehide");
  assert.equal(world.socket.closedWith, 1000);
  return hub;
}

test("a reload goes on with the session, the cursors and the outbox", async () => {
  const world = new World();
  await firstLife(world);
  world.now += 3_000;
  const got: number[] = [];
  const hub = hubIn(world, { persist: "tab" });
  hub.channel("c").on("*", ({ offset }) => got.push(offset));
  const hello = await world.welcome({ resumed: true });
  assert.deepEqual(hello.session, { id: "s1", key: "k1", attempt: world.now });
  assert.deepEqual(hello.subs, [{ ch: "c", e: "e1", o: 5, mode: "every" }]);
  assert.deepEqual(world.socket.sent.splice(0), [{ t: "pub", i: 1, ch: "out", id: "p-1", b: "Bw==", ev: "x" }]);
  world.socket.push(ok("c", 5, "full"), msg("c", 6, 0), live("c", 6, 1), { t: "ok", i: 1, e: "e", o: 1 });
  assert.deepEqual(got, [6]);
  assert.equal(hub.outbox.items().length, 0);
});

test("a page whose clock went back still claims above its own last attempt", async () => {
  const world = new World();
  await firstLife(world);
  const first = hubIn(world, { persist: "tab" });
  first.connect();
  const { session } = await world.welcome();
  await world.lifecycle("freeze");
  world.now -= 100_000;
  const hub = hubIn(world, { persist: "tab" });
  hub.connect();
  const again = (await world.welcome()).session as { attempt: number };
  assert.equal(again.attempt, (session as { attempt: number }).attempt + 1);
});

test("a duplicated tab leaves the session to its twin but keeps the positions", async () => {
  const world = new World();
  const first = hubIn(world, { persist: "tab" });
  first.channel("c").on("*", () => {});
  await world.welcome();
  world.socket.push(ok("c", 4), live("c", 4), msg("c", 5, 0));
  first.channel("out").publish("x", 1);
  await world.advance(1_000);
  const twin = hubIn(world, { persist: "tab" });
  twin.channel("c").on("*", () => {});
  const hello = await world.welcome({ session: { id: "s2", key: "k2", ttl: 1 } });
  assert.equal(hello.session, undefined);
  assert.deepEqual(hello.subs, [{ ch: "c", e: "e1", o: 5, mode: "every" }]);
  assert.deepEqual(world.socket.sent, []);
  assert.deepEqual([...world.locks].sort(), ["tidewire:s1", "tidewire:s2"]);
});

test("views and last start from what they asked for, not from the old page's cursor", async () => {
  const world = new World();
  await firstLife(world);
  const hub = hubIn(world, { persist: "tab" });
  hub.channel("c").on("*", () => {}, { last: 20 });
  assert.deepEqual((await world.welcome()).subs, [{ ch: "c", last: 20, mode: "every" }]);
});

test("a handler goes on from the page before also where presence is entered", async () => {
  const world = new World();
  await firstLife(world);
  const hub = hubIn(world, { persist: "tab" });
  hub.channel("c").presence.enter(1);
  hub.channel("c").on("*", () => {});
  assert.deepEqual((await world.welcome()).subs, [{ ch: "c", e: "e1", o: 5, mode: "every", me: 1 }]);
});

test("a handler goes on from the page before also where presence or a view came first", async () => {
  for (const first of ["presence", "view"]) {
    const world = new World();
    await firstLife(world);
    const hub = hubIn(world, { persist: "tab" });
    const room = hub.channel("c");
    if (first === "presence") room.presence.enter(1);
    else room.live<number>({ mode: "latest" }).subscribe(() => {});
    const asked = { me: first === "presence" ? 1 : undefined, state: first === "view" ? true : undefined };
    const present = Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== undefined));
    assert.deepEqual((await world.welcome()).subs, [{ ch: "c", ...present, mode: first === "view" ? "latest" : "every" }]);
    const got: number[] = [];
    room.on("*", ({ offset }) => got.push(offset));
    await world.settle();
    assert.deepEqual(world.socket.sent.splice(0).filter(({ t }) => t === "sub"), [], "the first answer is still owed");
    world.socket.push(ok("c", 8), msg("c", 9, 0, { k: "a" }), live("c", 9));
    await world.settle();
    const again = world.socket.sent.find(({ t }) => t === "sub");
    assert.deepEqual(again, { t: "sub", i: again?.i, ch: "c", e: "e1", o: 5, ...present, mode: "every" });
    const replay = [6, 7, 8, 9].map((o) => msg("c", o, 0, { k: "a" }));
    world.socket.push({ ...ok("c", 5, "full"), i: again?.i }, ...replay, live("c", 9, 4), msg("c", 10, 0, { k: "a" }));
    await world.settle();
    assert.deepEqual(got, [6, 7, 8, 9, 10], first);
  }
});

test("a handler added to a living channel goes on from the page before, once", async () => {
  const world = new World();
  await firstLife(world);
  const hub = hubIn(world, { persist: "tab" });
  hub.channel("c").presence.enter(1);
  await world.welcome();
  world.socket.push(ok("c", 8), live("c", 8));
  await world.advance(1_000);
  world.socket.sent.length = 0;
  const got: number[] = [];
  hub.channel("c").on("*", ({ offset }) => got.push(offset));
  world.socket.push(msg("c", 9, 0));
  await world.settle();
  assert.deepEqual(world.socket.sent.splice(0), [{ t: "sub", i: 2, ch: "c", e: "e1", o: 5, mode: "every", me: 1 }]);
  world.socket.push(msg("c", 10, 0), { ...ok("c", 5, "full"), i: 2 }, ...[6, 7, 8, 9, 10].map((o) => msg("c", o, 0)), live("c", 10, 5));
  hub.channel("c").on("*", ({ offset }) => got.push(-offset));
  world.socket.push(msg("c", 11, 0));
  await world.settle();
  assert.deepEqual(got, [6, 7, 8, 9, 10, 11, -11]);
  assert.deepEqual(world.socket.sent, []);
});

test("a page that only entered leaves the cursor of the page before to the next one", async () => {
  const world = new World();
  await firstLife(world);
  const hub = hubIn(world, { persist: "tab" });
  hub.channel("c").presence.enter(1);
  await world.welcome();
  world.socket.push(ok("c", 8), live("c", 8), msg("c", 9, 0));
  await world.lifecycle("pagehide");
  const next = hubIn(world, { persist: "tab" });
  next.channel("c").on("*", () => {});
  assert.deepEqual((await world.welcome()).subs, [{ ch: "c", e: "e1", o: 5, mode: "every" }]);
});

test("a live view alone begins now, whatever the page before held", async () => {
  const world = new World();
  await firstLife(world);
  const hub = hubIn(world, { persist: "tab" });
  hub.channel("c").live({ load: () => ({ data: 0 }), apply: (n) => n + 1 }).subscribe(() => {});
  assert.deepEqual((await world.welcome()).subs, [{ ch: "c", mode: "every" }]);
});

test("close forgets everything that was written down", async () => {
  const world = new World();
  await firstLife(world);
  const hub = hubIn(world, { persist: "tab" });
  hub.connect();
  await world.welcome();
  hub.close();
  assert.equal(world.storage?.items.size, 0);
  assert.equal(world.locks.size, 0);
});

test("a storage that throws or holds nonsense costs the reload, not the page", async () => {
  for (const text of ["{", "null", "7", '{"cursors":null}', '{"cursors":{"c":7},"outbox":[{}],"session":{}}']) {
    const world = new World();
    const storage = {
      getItem: () => text,
      setItem: () => {
        throw new Error("quota");
      },
      removeItem: () => {},
    };
    const hub = hubIn(world, { persist: storage });
    hub.channel("c").on("*", () => {});
    const hello = await world.welcome();
    assert.deepEqual(hello.subs, [{ ch: "c", mode: "every" }], text);
    assert.equal(hello.session, undefined);
    world.socket.push(ok("c", 3), live("c", 3), msg("c", 4, 0));
    assert.deepEqual(hub.position("c"), { epoch: "e1", offset: 4 });
  }
});
