/**
 * The page's link, made of Tidewire's TypeScript client: which channels are read and how, and what comes of them in
 * the page's words. app.ts opens it. It counts nothing and shows nothing; the only file that knows the client.
 */
import { createHub, defineChannels, Forbidden, type Hub, type KeyedView, type Message, type Status } from "../../typescript/src/index.ts";
import type { Entry, Facts, Link, Listener, PastChannel } from "./link.ts";
import { Network } from "./line.ts";

const ROUND_TRIP_EVERY_MS = 5_000;
/** Not while the page is busy with what a resume brought. */
const FIRST_ROUND_TRIP_MS = 500;
/** A message typed without network is worth sending for this long. */
const QUEUE_FOR = "5m";
const ORDER_KEYS = ["status", "courier", "eta"];

const channels = defineChannels({
  "orders:demo": { state: {} as Record<string, unknown> },
  "dash:demo": { state: {} as Record<string, unknown> },
  "chat:lobby": { events: {} as { msg: { text: string } }, presence: {} as { name: string } },
});
type Channels = typeof channels;
type View = KeyedView<unknown>;

/** What opening a link needs. */
export interface LinkOptions {
  user: string;
  tokenUrl: string;
  /** Updates a second of the dashboard; 0: as they come. */
  hz: number;
  /** Keys of the dashboard. */
  keys: readonly string[];
}

/** A view of keyed state, told on one publication at a time. */
interface Watched {
  view: View;
  /** Its keys, where they are known beforehand. */
  keys: readonly string[] | undefined;
  end(): void;
  /** Set once it caught up on this connection; until then nothing of it is told. */
  live: boolean;
  /** Where and when it caught up, and whether after an outage; until that was told. */
  caught: { offset: number; at: number; resumed: boolean } | undefined;
}

class HubLink implements Link {
  private readonly network = new Network();
  readonly hub: Hub<Channels>;
  private readonly room;
  private facts: Facts = { node: "", session: "", roundTrip: undefined, resumed: false };
  private readonly watched = new Map<string, Watched>();
  /** Broker's clock minus the page's, as the least delay seen tells it. */
  private skew: number | undefined;
  private snapshotEnd: (() => void) | undefined;

  constructor(
    private readonly options: LinkOptions,
    private readonly page: Listener,
  ) {
    this.hub = createHub({
      url: location.origin,
      channels,
      persist: "tab",
      webSocket: this.network.Socket,
      token: () => this.token(),
    });
    this.room = this.hub.channel("chat:lobby");
    this.listen();
    this.hub.channel("orders:demo").on("*", (message) => this.message(message));
    this.room.on("*", (message) => this.message(message));
    this.room.presence.enter({ name: options.user });
    this.rate(options.hz);
    this.watch("$presence:chat:lobby", this.room.presence.members as View, (view) => {
      page.members([...view.get().data.keys()].map((key) => key.slice(0, key.lastIndexOf("/"))));
    });
    this.hub.status.subscribe((status) => this.status(status));
    setInterval(() => void this.measure(), ROUND_TRIP_EVERY_MS);
  }

  say(text: string): ReturnType<Link["say"]> {
    return this.room.publish("msg", { text }, { queueFor: QUEUE_FOR });
  }

  async older(channel: PastChannel, before: number | undefined, n: number): Promise<{ items: Entry[]; more: boolean }> {
    const page = await this.hub.channel(channel).history(before === undefined ? { limit: n } : { before, limit: n });
    return { items: page.items.map((item) => this.entry(item)), more: page.more };
  }

  rate(hz: number): void {
    const view = this.hub.channel("dash:demo").live(hz > 0 ? { mode: "latest", maxHz: hz } : { mode: "latest" });
    this.watch("dash:demo", view as View, (now) => {
      const { freshness } = now.get();
      this.page.stale(undefined, freshness === "stale" ? Date.now() : 0);
    });
  }

  drop(ms: number): void {
    this.network.lose(ms);
  }

  leave(): void {
    this.hub.close();
  }

  /** Reads the order's state, for a page that did not see it come; ends when every key was told. */
  private snapshot(): void {
    this.snapshotEnd?.();
    const view = this.hub.channel("orders:demo").live({ mode: "latest" }) as View;
    const end = view.subscribe(({ data }) => {
      const items = [...data.keys()].flatMap((key) => view.item(key) ?? []);
      this.page.snapshot("orders:demo", items.map((item) => this.entry(item)));
      if (ORDER_KEYS.every((key) => data.has(key))) queueMicrotask(() => this.snapshotEnd?.());
    });
    this.snapshotEnd = () => {
      this.snapshotEnd = undefined;
      end();
    };
  }

  private listen(): void {
    const { hub, page } = this;
    hub.on("outcome", ({ channel, outcome }) => {
      const position = hub.position(channel);
      if (position !== null) page.begin(channel, position.epoch, position.offset);
      if (channel === "orders:demo" && outcome !== "full") this.snapshot();
    });
    hub.on("recovered", ({ channel }) => {
      const watched = this.watched.get(channel);
      if (watched === undefined) return page.live(channel, Date.now());
      watched.caught = { offset: hub.position(channel)?.offset ?? 0, at: Date.now(), resumed: !watched.live };
      watched.live = true;
    });
    hub.on("gap", ({ channel, from, to }) => page.gap(channel, from, to));
    hub.on("rewind", ({ channel, epoch, to, lost }) => (lost > 0 ? page.reset(channel, epoch, to) : page.renamed(channel, epoch)));
    hub.on("refused", ({ channel, error }) => page.refused(channel, error.name));
  }

  private async token(): Promise<string> {
    const answer = await fetch(`${this.options.tokenUrl}?user=${encodeURIComponent(this.options.user)}`);
    if (answer.status === 400 || answer.status === 403) throw new Forbidden();
    return ((await answer.json()) as { token: string }).token;
  }

  private status(status: Status): void {
    if (status.state === "closed") return;
    if (status.state === "online") {
      const { node = "", session, resumed } = status;
      this.facts = { ...this.facts, node, session, resumed };
      this.page.tell("online", "");
      this.page.welcome(this.facts);
      setTimeout(() => void this.measure(), FIRST_ROUND_TRIP_MS);
    } else {
      for (const watched of this.watched.values()) watched.live = false;
      this.page.tell(status.state, "name" in status ? (status.name ?? "") : "");
    }
  }

  private async measure(): Promise<void> {
    if (this.hub.status.get().state !== "online" || document.hidden) return;
    const start = performance.now();
    try {
      await this.older("chat:lobby", undefined, 1);
      this.facts = { ...this.facts, roundTrip: performance.now() - start };
      this.page.facts(this.facts);
    } catch {
      // The next one says more than this one's failure would.
    }
  }

  private watch(channel: string, view: View, after: (view: View) => void): void {
    const before = this.watched.get(channel);
    const keys = channel === "dash:demo" ? this.options.keys : undefined;
    const watched: Watched = { view, keys, end: () => {}, live: before?.live ?? false, caught: before?.caught };
    this.watched.set(channel, watched);
    watched.end = view.subscribe(() => {
      if (this.watched.get(channel) !== watched) return;
      this.tell(channel, watched);
      after(view);
    });
    before?.end();
  }

  /** Tells what a view has that was not told yet: first what it caught up with, then what came live. */
  private tell(channel: string, watched: Watched): void {
    const position = this.hub.position(channel);
    if (!watched.live || position === null || watched.view.get().freshness === "catching-up") return;
    const keys = watched.keys ?? [...watched.view.get().data.keys()];
    const items = keys.flatMap((key) => watched.view.item(key) ?? []);
    const entries = items.sort((a, b) => a.offset - b.offset).map((item) => this.entry(item));
    const { caught } = watched;
    if (caught !== undefined) {
      this.page.newest(channel, position.epoch, entries.filter(({ offset }) => offset <= caught.offset), caught.offset, caught.resumed);
      this.page.live(channel, caught.at);
      watched.caught = undefined;
    }
    this.page.newest(channel, position.epoch, entries, position.offset, false);
  }

  private message(message: Message): void {
    const arrived = Date.now();
    if (!message.replayed) this.skew = Math.max(this.skew ?? -Infinity, message.ts - arrived);
    const { channel, replayed } = message;
    this.page.arrival({ ...this.entry(message), channel, arrived, replayed, conflated: 0 });
  }

  private entry({ offset, epoch, key, event, id, by, ts, data, deleted }: Message): Entry {
    return { offset, epoch, key, event, id, by, published: ts - (this.skew ?? 0), data, deleted };
  }
}

/** Opens the page's one connection; it goes on until the page ends. */
export function openLink(options: LinkOptions, page: Listener): Link {
  return new HubLink(options, page);
}
