/*
 * The living connection and its successor: tokens, hello, backoff, takeover, `move`, wake and sleep. The hub owns it
 * and hears of it through `LinkHost`. It never looks into channels: frames that are not about the connection go up.
 */
import { afterClose } from "../core/close.js";
import { Session } from "../core/session.js";
import type { Environment } from "../environment.js";
import { Forbidden, HubError } from "../errors.js";
import { Value } from "../observable.js";
import type { Bye, Command, Encoding, Push, Welcome } from "../protocol/frames.js";
import { Connection, type Owner } from "./connection.js";
import { Timer } from "./timer.js";
import type { Persistence, Saved } from "./persistence.js";
import type { Requests } from "./requests.js";
import type { Subscriptions } from "./subscriptions.js";
import type { TokenSource } from "./token.js";

/** `offline` with `retryAt`: waiting for the next try (Unix ms). `blocked`: stopped, `hub.connect()` tries again. */
export type Status =
  | { readonly state: "connecting" }
  | { readonly state: "online"; readonly user: string | undefined; readonly session: string; readonly resumed: boolean; readonly node: string | undefined }
  | { readonly state: "offline"; readonly retryAt?: number; readonly code?: number; readonly name?: string }
  | { readonly state: "blocked"; readonly code: number; readonly name: string }
  | { readonly state: "closed" };

export interface LinkHost {
  readonly subscriptions: Subscriptions;
  readonly requests: Requests;
  restored(saved: Saved): void;
  /** The hello was sent and other commands may follow. */
  pipeline(): void;
  up(welcome: Welcome, connection: Connection, pipelined: boolean): void;
  /** What was sent on the last connection will not be answered. */
  down(): void;
  frame(frame: Push): void;
  /** Writes down what must survive. */
  save(): void;
  /** Blocked or closed: nothing more will be answered. */
  ended(error: HubError): void;
}

const SDK = "tidewire-js/0.1.0";
/** A connection that lived this long after `welcome` was a good one: the next wait starts small again. */
const STABLE_MS = 5_000;
/** The part of a token's remaining life after which a fresh one is fetched, and the least wait: a source may give an old one again. */
const REFRESH_AT = 0.9;
const REFRESH_LEAST_MS = 5_000;

export class Link implements Owner {
  readonly session = new Session();
  readonly status: Value<Status>;
  /** Broker's clock minus this machine's, in ms. */
  clockOffset = 0;
  private living: Connection | null = null;
  private next: Connection | null = null;
  private pipelined: Connection | null = null;
  private restoring: Promise<void> | null = null;
  private preparing = 0;
  private run = 0;
  private stopped: "" | "asleep" | "blocked" | "closed" = "";
  private readonly retryTimer: Timer;
  private hinted = false;
  private readonly refreshTimer: Timer;
  private unauthenticated = 0;
  private claimed = false;
  private welcomedAt = 0;
  private token: string | undefined;

  constructor(
    private readonly env: Environment,
    private readonly url: string,
    private readonly encodings: readonly [Encoding, ...Encoding[]],
    private readonly tokens: TokenSource,
    private readonly persistence: Persistence,
    private readonly host: LinkHost,
  ) {
    this.retryTimer = new Timer(env);
    this.refreshTimer = new Timer(env);
    this.status = new Value<Status>({ state: "offline" }, env.report);
  }

  get online(): boolean {
    return this.living !== null;
  }

  /** True where a frame sent at once belongs to the connection whose hello named the subscriptions. */
  get writable(): boolean {
    return this.out?.open ?? false;
  }

  send(frame: Command): void {
    this.out?.send(frame);
  }

  /** Something wants the node: opens a connection unless one lives, is under way or waits for its time. */
  need(): void {
    if (!this.living && !this.retryTimer.running) this.open();
  }

  /** As the user wishes: at once, and again after `blocked`. */
  connect(): void {
    if (this.stopped === "closed" || this.living) return;
    this.stopped = "";
    this.open();
  }

  wake(): void {
    if (this.stopped === "closed" || this.stopped === "blocked") return;
    if (this.stopped === "asleep" || (!this.living && this.retryTimer.running && !this.hinted)) {
      this.tokens.expire("wake");
      this.connect();
    }
    this.living?.wake(() => {
      this.tokens.expire("wake");
      this.host.requests.once({ t: "ping" });
    });
  }

  /** The page is put away: the connection ends, the session stays. */
  sleep(): void {
    if (this.stopped || (!this.living && !this.next && !this.preparing && !this.retryTimer.running)) return;
    this.stop("asleep", { state: "offline" });
    this.persistence.unlock();
  }

  close(): void {
    if (this.stopped === "closed") return;
    this.send({ t: "leave" });
    this.stop("closed", { state: "closed" });
    this.persistence.forget();
    this.host.ended(new HubError(1, "closed"));
  }

  private get out(): Connection | null {
    return this.living ?? this.pipelined;
  }

  private stop(why: "asleep" | "blocked" | "closed", status: Status): void {
    this.stopped = why;
    this.run++;
    this.preparing = 0;
    this.living?.drop();
    this.next?.drop();
    this.living = this.next = this.pipelined = null;
    this.retryTimer.stop();
    this.refreshTimer.stop();
    this.host.down();
    this.status.set(status);
  }

  private block(code: number, name: string): void {
    this.session.forget();
    this.persistence.unlock();
    this.stop("blocked", { state: "blocked", code, name });
    this.host.ended(new HubError(code >= 4000 ? code - 4000 : code, name));
  }

  private open(): void {
    if (this.stopped || this.preparing || this.next) return;
    this.retryTimer.stop();
    const run = (this.preparing = ++this.run);
    if (!this.living) this.status.set({ state: "connecting" });
    this.prepare(run).catch((error: unknown) => {
      if (run !== this.run) return;
      this.preparing = 0;
      if (error instanceof Forbidden) this.block(4403, "forbidden");
      else this.retry(0, 0, "token_failed");
    });
  }

  private async prepare(run: number): Promise<void> {
    this.restoring ??= this.restore();
    await this.restoring;
    const token = await this.tokens.get();
    if (run !== this.run) return;
    this.preparing = 0;
    if (this.token !== undefined && token !== this.token) this.host.subscriptions.renewed();
    this.token = token;
    try {
      this.next = new Connection(this.env, this.url, this.encodings, this);
    } catch (error) {
      this.env.report(error);
      this.block(4400, "no_socket");
    }
  }

  private async restore(): Promise<void> {
    const saved = await this.persistence.restore();
    if (!saved?.cursors) return;
    const { id, key, attempt } = saved.session ?? {};
    if (id && key) Object.assign(this.session, { identity: { id, key }, attempt });
    this.host.restored(saved);
  }

  opened(connection: Connection): void {
    const session = this.session.claim(this.env.now());
    if (session) this.host.save();
    const pipelined = !this.living;
    const subs = this.host.subscriptions.hello(connection, pipelined);
    connection.send({ t: "hello", token: this.token, session, subs, sdk: SDK });
    if (!pipelined) return;
    this.pipelined = connection;
    this.host.pipeline();
  }

  frame(connection: Connection, frame: Push): void {
    if (connection === this.next && frame.t === "welcome") return this.promote(connection, frame);
    if (connection !== this.living) return;
    switch (frame.t) {
      case "ping":
        return connection.send({ t: "pong", c: this.host.subscriptions.acks() });
      case "auth":
        return this.refresh();
      case "move":
        return this.retryTimer.start(frame.in, () => this.open());
      default:
        return this.host.frame(frame);
    }
  }

  private promote(connection: Connection, welcome: Welcome): void {
    const pipelined = this.pipelined === connection;
    this.living?.drop();
    if (this.living) this.host.down();
    this.living = connection;
    this.next = this.pipelined = null;
    connection.heartbeat(welcome.hb);
    const now = this.env.now();
    this.welcomedAt = now;
    this.clockOffset = welcome.ts - now;
    this.unauthenticated = 0;
    this.claimed = false;
    this.session.welcomed(welcome);
    void this.persistence.hold(welcome.session.id);
    this.expires(welcome.exp);
    const { user, resumed, node, session } = welcome;
    this.host.up(welcome, connection, pipelined);
    this.status.set({ state: "online", user, session: session.id, resumed, node });
  }

  ended(connection: Connection, code: number, bye: Bye | null): void {
    const now = this.env.now();
    if (connection === this.living) {
      this.living = null;
      this.refreshTimer.stop();
      if (now - this.welcomedAt >= STABLE_MS) this.retryTimer.failures = 0;
      this.host.down();
      if (this.next) return this.status.set({ state: "connecting" });
    } else {
      this.next = null;
      if (this.pipelined === connection) this.host.down();
      this.pipelined = null;
    }
    const { unauthenticated, claimed, session } = this;
    const { welcomed } = connection;
    const attempt = this.living ? undefined : bye?.attempt;
    const name = bye?.name ?? "closed_" + code;
    switch (afterClose({ code, welcomed, unauthenticated, claimed, attempt, replaced: session.takeoversBefore(now) })) {
      case "resume":
        return this.retry(bye?.retry ?? 0, code, name);
      case "token":
        this.unauthenticated++;
        this.tokens.expire("unauthenticated");
        break;
      case "claim":
        this.claimed = true;
        this.session.attempt = bye?.attempt as number;
        break;
      case "fresh":
        this.claimed = false;
        this.session.replaced(now);
        break;
      case "blocked":
        return this.block(code, name);
    }
    this.open();
  }

  private retry(hint: number, code: number, name: string): void {
    this.hinted = hint > 0;
    const wait = this.retryTimer.again(hint, () => this.open());
    if (!this.living) this.status.set({ state: "offline", retryAt: this.env.now() + wait, code, name });
  }

  /* `exp` is of the broker's clock. The node asks at 90 % of the token's life; the timer stands in where it does not. */
  private expires(exp: number | undefined): void {
    const life = (exp ?? Infinity) - this.clockOffset - this.env.now();
    this.refreshTimer.start(Math.max(life * REFRESH_AT, REFRESH_LEAST_MS), () => this.refresh());
  }

  private refresh(): void {
    const { living } = this;
    this.refreshTimer.stop();
    this.tokens.expire("expiring");
    const again = (): void => {
      if (living !== this.living || this.stopped) return;
      this.refreshTimer.again(0, () => this.refresh());
    };
    this.tokens.get().then(
      (token) => {
        if (living !== this.living || token === undefined) return;
        this.refreshTimer.failures = 0;
        this.token = token;
        const { requests, subscriptions } = this.host;
        requests.once({ t: "auth", token }, ({ exp }) => {
          subscriptions.renewed();
          this.expires(exp);
        }, again);
      },
      (error: unknown) => (error instanceof Forbidden && living === this.living ? this.block(4403, "forbidden") : again()),
    );
  }
}
