/*
 * Runs the client half of every dialogue in protocol/vectors/scripts, in virtual time. The format is described in
 * protocol/vectors/README.md; the node half of the same files is run against a real node.
 */
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { createHub, HubError, type HistoryOptions, type Hub, type Message, type KeyedView, type LifecycleEvent, type Page, type PublishOptions } from "../src/index.js";
import { EPOCH_MS, World, type FakeSocket } from "./harness.js";
import { VECTORS } from "./vectors.js";

type Json = Record<string, unknown>;
interface Step {
  api?: Json & { call: string };
  client?: Json;
  node?: Json | Json[];
  event?: Record<string, Json>;
  advance?: number;
  connect?: true;
  drop?: true;
  close?: number;
  ended?: number;
  quiet?: true;
  backend?: Json;
  conn?: number;
}
interface Script {
  name: string;
  sides?: string[];
  tokens?: string[];
  vars: Json;
  steps: Step[];
}

/** Replaces "$name" by its value, wherever the whole text is one name. */
function bind(pattern: unknown, vars: Json): unknown {
  if (typeof pattern === "string" && pattern.startsWith("$") && Object.hasOwn(vars, pattern.slice(1))) return vars[pattern.slice(1)];
  if (Array.isArray(pattern)) return pattern.map((item) => bind(item, vars));
  if (pattern && typeof pattern === "object") return Object.fromEntries(Object.entries(pattern).map(([k, v]) => [k, bind(v, vars)]));
  return pattern;
}

const pick = (actual: Json, keys: Json): Json => Object.fromEntries(Object.keys(keys).map((key) => [key, actual[key]]));

class Run {
  readonly world = new World();
  readonly hub: Hub;
  private readonly events: Record<string, Json>[] = [];
  private readonly named = new Map<string, () => void>();
  private readonly views = new Map<string, () => Json>();
  private readonly conns: FakeSocket[] = [];
  private page: Page<Message> | null = null;

  constructor(private readonly script: Script) {
    const tokens = (script.tokens ?? ["$token"]).map((token) => bind(token, script.vars) as string);
    let used = 0;
    this.hub = createHub({
      url: "wss://rt.example.com",
      environment: this.world.env,
      token: () => tokens[Math.min(used++, tokens.length - 1)] as string,
    });
    const tell = (kind: string) => (event: unknown) => void this.events.push({ [kind]: event as Json });
    for (const kind of ["gap", "rewind", "reset", "recovered", "conflated"] as const) this.hub.on(kind, tell(kind));
    this.hub.on("refused", ({ channel, error }) => tell("refused")({ channel, code: error.code, name: error.name }));
  }

  async step(step: Step): Promise<void> {
    const { world } = this;
    await world.settle();
    const socket = (): FakeSocket => (step.conn === undefined ? this.conns.at(-1) : this.conns[step.conn]) as FakeSocket;
    if (step.api) this.api(step.api);
    else if (step.connect) this.connect();
    else if (step.client) this.expectFrame(socket(), step.client);
    else if (step.node) socket().push(...([bind(step.node, this.script.vars)].flat() as Json[]));
    else if (step.event) this.expectEvent(bind(step.event, this.script.vars) as Record<string, Json>);
    else if (step.advance !== undefined) await world.advance(step.advance);
    else if (step.drop) socket().cut();
    else if (step.close) socket().cut(step.close);
    else if (step.ended) assert.equal(socket().closedWith, step.ended);
    else if (step.quiet) this.expectQuiet();
    else assert.ok(step.backend, "unknown step");
    await world.settle();
  }

  finish(): void {
    this.expectQuiet();
    assert.deepEqual(this.events, [], "events nobody expected");
    assert.deepEqual(this.world.errors, []);
  }

  private connect(): void {
    const socket = this.world.sockets[this.conns.length];
    assert.ok(socket, "the library opened no connection");
    this.conns.push(socket);
    socket.open();
  }

  private expectFrame(socket: FakeSocket, pattern: Json): void {
    const { sdk, ...frame } = socket.sent.shift() ?? {};
    assert.equal(typeof sdk, pattern.t === "hello" ? "string" : "undefined");
    assert.deepEqual(frame, bind(pattern, this.script.vars));
  }

  private expectQuiet(): void {
    assert.equal(this.world.sockets.length, this.conns.length, "an unexpected connection");
    for (const { sent } of this.conns) assert.deepEqual(sent, [], "unexpected frames");
  }

  private expectEvent(event: Record<string, Json>): void {
    const [kind, expected] = Object.entries(event)[0] as [string, Json];
    if (kind === "status") return assert.deepEqual(pick(this.hub.status.get() as unknown as Json, expected), expected);
    if (kind === "view") {
      const { as, ...rest } = expected;
      return assert.deepEqual(pick((this.views.get(as as string) as () => Json)(), rest), rest);
    }
    const got = this.events.shift();
    assert.ok(got?.[kind], `expected ${kind}, got ${JSON.stringify(got)}`);
    assert.deepEqual(pick(got[kind], expected), expected);
  }

  private api({ call, ...args }: Json & { call: string }): void {
    const channel = this.hub.channel((args.channel as string) ?? "none");
    const as = args.as as string;
    const watch = (view: KeyedView<unknown>): void => {
      this.named.set(as, view.subscribe(() => {}));
      this.views.set(as, () => ({ ...view.get(), data: Object.fromEntries(view.get().data) }));
    };
    const calls: Record<string, () => void> = {
      on: () =>
        void this.named.set(as, channel.on((args.event as string) ?? "*", (message) => this.events.push({ message: message as unknown as Json }), args.last ? { last: args.last as number } : {})),
      off: () => this.named.get(as)?.(),
      latest: () => watch(channel.live({ mode: "latest" })),
      members: () => watch(channel.presence.members),
      enter: () => channel.presence.enter(args.me),
      connect: () => this.hub.connect(),
      close: () => this.hub.close(),
      lifecycle: () => void this.world.lifecycle(args.event as LifecycleEvent),
      history: () => this.read(channel.history(pick(args, { limit: 0, ...("before" in args && { before: 0 }) }) as HistoryOptions) as Promise<Page<Message>>),
      next: () => this.read((this.page as Page<Message>).next()),
      publish: () => this.publish(channel.publish(args.event as string, args.data, (args.options ?? {}) as PublishOptions)),
    };
    const run = calls[call];
    assert.ok(run, "unknown call " + call);
    run();
  }

  private read(page: Promise<Page<Message>>): void {
    void page.then((got) => {
      this.page = got;
      this.events.push({ page: { offsets: got.items.map(({ offset }) => offset), more: got.more } });
    });
  }

  private publish({ id, acked }: { id: string; acked: Promise<unknown> }): void {
    acked.then(
      (at) => this.events.push({ acked: { id, ...(at as Json) } }),
      (error: unknown) => {
        assert.ok(error instanceof HubError);
        this.events.push({ failed: { id, code: error.code, name: error.name, position: error.position } });
      },
    );
  }
}

const folder = VECTORS + "scripts/";
const files = readdirSync(folder).filter((file) => file.endsWith(".json"));
assert.ok(files.length >= 15, "dialogue scripts are missing");
for (const file of files) {
  const script = JSON.parse(readFileSync(folder + file, "utf8")) as Script;
  if (script.sides && !script.sides.includes("client")) continue;
  test("script " + script.name, async () => {
    const run = new Run(script);
    assert.equal(run.world.now, EPOCH_MS);
    for (const [at, step] of script.steps.entries()) {
      try {
        await run.step(step);
      } catch (error) {
        (error as Error).message = `step ${at + 1} ${JSON.stringify(step)}: ${(error as Error).message}`;
        throw error;
      }
    }
    run.finish();
    run.hub.close();
    await run.world.settle();
    assert.equal(run.world.pendingTimers, 0, "timers left behind");
  });
}
