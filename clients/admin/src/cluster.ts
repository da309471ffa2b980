/**
 * What is known of the nodes: who lives, who left or vanished, and each one's last quarter of an hour. Fed by feed.ts
 * with what nodes say of themselves; read by the views. A node is gone when its lease ended while the broker was in
 * reach: while it is not, nobody is declared gone.
 */
export interface Health {
  up: boolean;
  ms: number | null;
}

/** What a node says of itself; see src/admin/rows.rs. */
export interface Row {
  at: number;
  version: string;
  subscriptions: number;
  channels: number;
  stalled: number;
  publications: number;
  deliveries: number;
  delivered_bytes: number;
  cpu: number;
  delivery_p99: number | null;
  lag_p99: number | null;
  memory: number;
  memory_mark: number | null;
  resumes: Record<string, number>;
  closes: Record<string, number>;
  gaps: Record<string, number>;
  rejected: Record<string, number>;
  rewinds: number;
  violations: number;
  broker: Health;
  store: Health;
  generation: string;
  stale_since: number | null;
  control_ms_ago: number | null;
  waiting: number;
  connections_max: number;
  drain_seconds: number;
  findings: string[];
}

export interface Lease {
  started: number;
  address: string;
  connections: number;
  sessions: number;
  draining: boolean;
  row?: Row;
}

/** A moment of a node's past. */
export interface Point {
  at: number;
  connections: number;
  sessions: number;
  publications: number;
  deliveries: number;
  delivery_p99: number | null;
  lag_p99: number | null;
  memory: number;
  cpu: number;
  /** Since the point before. */
  resumes: number;
  gaps: number;
  rewinds: number;
  /** The node's last word: it has left as it should. */
  left?: boolean;
}

export type Standing = "living" | "draining" | "unready" | "left" | "vanished";

export interface Node {
  name: string;
  /** Its colour: below COLOURS one of its own. */
  colour: number;
  lease: Lease | undefined;
  standing: Standing;
  /** When it was last heard, Unix ms of the broker's clock. */
  heard: number;
  points: Point[];
  /** How many connections it had when it began to drain. */
  drainedFrom: number | undefined;
}

export const PAST_MS = 15 * 60_000;
/** Nodes with a colour of their own; the others share a grey. */
export const COLOURS = 8;
/** Points of one node: one a second while the page is open. */
const POINTS_MAX = 1_000;

export class Cluster {
  private readonly known = new Map<string, Node>();
  /** Broker's clock minus the page's, as the least delay seen tells it. */
  private skew: number | undefined;

  /** The broker's time now. */
  now(): number {
    return Date.now() + (this.skew ?? 0);
  }

  /** In the order of starts, then of names; those that are gone come last. */
  nodes(): Node[] {
    const order = (node: Node): [number, number] => [isGone(node) ? 1 : 0, node.lease?.started ?? 0];
    return [...this.known.values()].sort((one, next) => {
      const [a, b] = [order(one), order(next)];
      return a[0] - b[0] || a[1] - b[1] || (one.name < next.name ? -1 : 1);
    });
  }

  get(name: string): Node | undefined {
    return this.known.get(name);
  }

  /** A node's past, oldest first: what was before the page began to listen. */
  past(name: string, points: readonly Point[]): void {
    const node = this.met(name);
    const begun = node.points[0]?.at ?? Infinity;
    const before = points.filter(({ at, left }) => at < begun && left !== true);
    node.points.unshift(...before);
    if (node.lease === undefined && points.at(-1)?.left === true) node.standing = "left";
    node.heard = Math.max(node.heard, points.at(-1)?.at ?? 0);
  }

  /** All leases that stand. `whole`: the broker is in reach and nothing is missing, so who is not among them is gone. */
  present(leases: Iterable<{ name: string; lease: Lease; at: number }>, whole: boolean): void {
    const present = new Set<string>();
    for (const { name, lease, at } of leases) {
      present.add(name);
      this.hear(this.met(name), lease, at);
    }
    const since = this.now() - PAST_MS;
    for (const node of this.known.values()) {
      if (whole && !present.has(node.name) && !isGone(node)) node.standing = node.standing === "draining" ? "left" : "vanished";
      while ((node.points[0]?.at ?? Infinity) < since) node.points.shift();
      if (isGone(node) && node.heard < since) this.known.delete(node.name);
    }
  }

  private hear(node: Node, lease: Lease, at: number): void {
    const { row } = lease;
    const before = node.lease?.row;
    if (this.skew === undefined || at - Date.now() > this.skew) this.skew = at - Date.now();
    node.lease = lease;
    node.heard = Math.max(node.heard, at);
    node.standing = lease.draining ? "draining" : row !== undefined && !(row.broker.up && row.store.up) ? "unready" : "living";
    if (lease.draining) node.drainedFrom ??= Math.max(lease.connections, node.points.at(-1)?.connections ?? 0);
    if (row === undefined || row.at === before?.at || at <= (node.points.at(-1)?.at ?? 0)) return;
    node.points.push({
      ...row,
      at,
      connections: lease.connections,
      sessions: lease.sessions,
      resumes: since(row.resumes["resumed"], before?.resumes["resumed"], before),
      gaps: since(total(row.gaps), total(before?.gaps), before),
      rewinds: since(row.rewinds, before?.rewinds, before),
    });
    if (node.points.length > POINTS_MAX) node.points.shift();
  }

  /** By its name, so that it is the same in every page, unless another node has it: then the next that is free. */
  private colour(name: string): number {
    const own = [...name].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 9973, 7) % COLOURS;
    const taken = new Set([...this.known.values()].map((node) => node.colour));
    for (let step = 0; step < COLOURS; step++) if (!taken.has((own + step) % COLOURS)) return (own + step) % COLOURS;
    return COLOURS;
  }

  private met(name: string): Node {
    let node = this.known.get(name);
    if (node === undefined) {
      node = { name, colour: this.colour(name), lease: undefined, standing: "vanished", heard: 0, points: [], drainedFrom: undefined };
      this.known.set(name, node);
    }
    return node;
  }
}

export function isGone({ standing }: Node): boolean {
  return standing === "left" || standing === "vanished";
}

export function total(counts: Record<string, number> | undefined): number {
  return Object.values(counts ?? {}).reduce((sum, count) => sum + count, 0);
}

/** What a counter grew by; nothing where there is nothing to compare with. */
function since(now = 0, before = 0, known: unknown): number {
  return known === undefined ? 0 : Math.max(0, now - before);
}
