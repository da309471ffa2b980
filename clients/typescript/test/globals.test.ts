/* The built package in a bare context, and over real sockets with the package `ws`. Both use what is shipped. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import vm from "node:vm";
import { WebSocket, WebSocketServer } from "ws";
import { createHub, type Hub, type WebSocketClass } from "../src/index.js";
import { msgpack, pack, unpack } from "../src/msgpack.js";

/* What browsers, workers and Node add to the language. */
const HOST = Object.getOwnPropertyNames(globalThis)
  .filter((name) => !Object.getOwnPropertyNames(vm.runInNewContext("globalThis")).includes(name))
  .concat("window", "self", "document", "location", "sessionStorage", "localStorage", "addEventListener", "reportError", "WebSocket", "importScripts", "require");

test("importing touches no global, and a hub can be made where there is nothing but the language", () => {
  for (const name of ["index", "msgpack"]) {
    const code = readFileSync(`.build/bare-${name}.js`, "utf8");
    const touched: string[] = [];
    const context = vm.createContext({});
    const watch = (name: string): unknown => Object.defineProperty(context, name, { configurable: true, get: () => void touched.push(name) });
    HOST.forEach(watch);
    const { createHub: create } = vm.runInContext(code + ";bare", context) as { createHub?: typeof createHub };
    assert.deepEqual(touched, []);
    for (const host of HOST) delete context[host];
    if (create) assert.equal(create({ url: "wss://h", persist: "tab" }).status.get().state, "offline");
  }
});

type Frame = Record<string, unknown>;

for (const encoding of [undefined, msgpack]) {
  test(`a real socket, ${encoding ? "MessagePack" : "JSON"}: publish, receive, lose the connection, resume`, { timeout: 10_000 }, async (t) => {
    const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
    t.after(() => {
      for (const socket of server.clients) socket.terminate();
      server.close();
    });
    await once(server, "listening");
    const hellos: Frame[] = [];
    server.on("connection", (socket) => {
      assert.equal(socket.protocol, encoding ? "tidewire.v1.msgpack" : "tidewire.v1.json");
      const send = (frame: Frame): void => socket.send(encoding ? pack(frame) : JSON.stringify(frame));
      socket.on("message", (data: Buffer) => {
        for (const frame of (encoding ? unpack(data) : data.toString().split("\n").map((line) => JSON.parse(line) as unknown)) as Frame[]) {
          if (frame.t === "hello") {
            hellos.push(frame);
            send({ t: "welcome", session: { id: "s", key: "k", ttl: 60_000 }, resumed: hellos.length > 1, hb: 25, ts: Date.now() });
            send({ t: "ok", ch: "c", e: "e1", o: hellos.length - 1, rec: hellos.length > 1 ? "full" : "fresh" });
            send({ t: "live", ch: "c", o: hellos.length - 1, n: 0 });
          }
          if (frame.t === "pub") {
            const o = hellos.length;
            send({ t: "ok", i: frame.i, e: "e1", o });
            send({ t: "msg", ch: "c", o, ts: 1, ev: frame.ev, ...(frame.b ? { b: frame.b } : { d: frame.d }) });
          }
        }
      });
    });
    const hub: Hub = createHub({
      url: `ws://127.0.0.1:${(server.address() as AddressInfo).port}`,
      webSocket: WebSocket as unknown as WebSocketClass,
      ...(encoding && { encoding }),
    });
    const room = hub.channel("c");
    const got: unknown[] = [];
    const arrived = (count: number): Promise<void> => new Promise((resolve) => {
      const off = room.on("*", () => got.length >= count && (off(), resolve()));
    });
    room.on("said", ({ data }) => got.push(data));
    const first = arrived(1);
    assert.deepEqual(await room.publish("said", { text: "hé" }).acked, { epoch: "e1", offset: 1, duplicate: false, acknowledged: "log" });
    await first;
    for (const socket of server.clients) socket.terminate();
    const second = arrived(2);
    await room.publish("said", "again").acked;
    await second;
    assert.deepEqual(got, [{ text: "hé" }, "again"]);
    assert.deepEqual((hellos[1]?.subs as Frame[])[0], { ch: "c", e: "e1", o: 1, mode: "every" });
    assert.equal((hellos[1]?.session as Frame).id, "s");
    hub.close();
  });
}
