/**
 * The page's connection: the hub's own `$sys:` channels, read with the hub's own client like any other channel. The
 * rows of the nodes are keyed state in mode `latest`, their past is history. The only file that knows the client;
 * app.ts owns one. It shows nothing.
 */
import { createHub, Forbidden, type Hub, type KeyedView, type Status } from "../../typescript/src/index.ts";
import { PAST_MS, type Cluster, type Lease, type Point } from "./cluster.ts";
import { NotLetIn, type Door } from "./door.ts";

const NODES = "$sys:nodes";
const PAST = "$sys:history";
/** Updates a second. */
const HZ = 2;
/** Publications a page; the node's own limit. */
const PAGE = 256;
/** Pages of the past at most: what the hub keeps of it at most. */
const PAGES_MAX = 24;
/** Pages read without a pause, and the pause then: a node answers ten a second. */
const AT_ONCE = 8;
const PAUSE_MS = 150;
/** A past that could not be read is asked for again after this. */
const AGAIN_MS = 3_000;

/** How the connection stands. */
export interface Standing {
  state: Status["state"];
  /** Why, where the node said so. */
  why: string;
  /** The node at the other end. */
  node: string;
  /** Whether the newest connection went on with the session. */
  resumed: boolean;
  /** Since when what is shown may be old, broker's clock; 0: it is fresh. */
  staleSince: number;
  /** Whether the nodes were read since the page began. */
  read: boolean;
}

export class Feed {
  readonly standing: Standing = { state: "connecting", why: "", node: "", resumed: false, staleSince: 0, read: false };
  private readonly hub: Hub;
  private readonly view: KeyedView<Lease>;
  private pastIs: "unread" | "reading" | "read" = "unread";

  constructor(
    private readonly door: Door,
    private readonly cluster: Cluster,
    private readonly changed: () => void,
    private readonly refused: (error: NotLetIn) => void,
  ) {
    this.hub = createHub({
      url: `${location.origin}/admin/connect`,
      persist: "tab",
      token: ({ reason }) => this.token(reason !== "connect"),
    });
    this.view = this.hub.channel(NODES).live({ mode: "latest", maxHz: HZ }) as KeyedView<Lease>;
    this.view.subscribe(() => this.read());
    this.hub.status.subscribe((status) => this.status(status));
  }

  /** Ends the session. */
  close(): void {
    this.hub.close();
  }

  /** Tries at once, also after the node had refused for good. */
  again(): void {
    this.hub.connect();
  }

  private async token(refused: boolean): Promise<string> {
    try {
      return await this.door.token(refused);
    } catch (error) {
      if (!(error instanceof NotLetIn)) throw error;
      this.refused(error);
      throw new Forbidden();
    }
  }

  private status(status: Status): void {
    const { standing } = this;
    standing.state = status.state;
    standing.why = "name" in status ? (status.name ?? "") : "";
    if (status.state === "online") {
      standing.node = status.node ?? "";
      standing.resumed = status.resumed;
    }
    this.changed();
  }

  private read(): void {
    const { data, freshness, ...rest } = this.view.get();
    const { standing } = this;
    standing.staleSince = "since" in rest ? rest.since : 0;
    if (freshness === "live") {
      standing.read = true;
      if (this.pastIs === "unread") void this.past();
    }
    const leases = [...data].map(([name, lease]) => ({ name, lease, at: this.view.item(name)?.ts ?? 0 }));
    this.cluster.present(leases, freshness === "live" && standing.state === "online");
    this.changed();
  }

  /** Reads the last quarter of an hour, newest page first; tried again with the next rows where it cannot be read whole. */
  private async past(): Promise<void> {
    this.pastIs = "reading";
    const points = new Map<string, Point[]>();
    try {
      let page = await this.hub.channel(PAST).history({ limit: PAGE });
      for (let pages = 1; ; pages++) {
        for (const { data, ts } of [...page.items].reverse()) {
          const { node, ...point } = data as Omit<Point, "at"> & { node: string };
          const known = points.get(node) ?? [];
          points.set(node, known);
          known.push({ ...point, at: ts });
        }
        const oldest = page.items[0]?.ts ?? 0;
        if (!page.more || pages === PAGES_MAX || oldest < this.cluster.now() - PAST_MS) break;
        if (pages >= AT_ONCE) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
        page = await page.next();
      }
      this.pastIs = "read";
    } catch (error) {
      console.warn("the past of the nodes could not be read", error);
      setTimeout(() => (this.pastIs = "unread"), AGAIN_MS);
      return;
    }
    for (const [node, past] of points) this.cluster.past(node, past.reverse());
    this.changed();
  }
}
