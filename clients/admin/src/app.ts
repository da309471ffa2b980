/**
 * The page as a whole: opens the door, then the feed, draws once a second and whenever something was heard, and says
 * how far what is shown can be believed. The other files own what they show.
 */
import { Api } from "./api.ts";
import { Cluster, isGone, total, type Node } from "./cluster.ts";
import { Deeds } from "./deeds.ts";
import { Door, NotLetIn } from "./door.ts";
import { at, fill, h } from "./dom.ts";
import { Feed, type Standing } from "./feed.ts";
import { Find } from "./find.ts";
import * as show from "./format.ts";
import { Plots } from "./plots.ts";
import { Table } from "./table.ts";

const DRAW_EVERY_MS = 1_000;

class Page {
  private readonly door = new Door();
  private readonly api = new Api(this.door);
  private readonly cluster = new Cluster();
  private readonly deeds = new Deeds();
  private readonly find = new Find(this.api, this.deeds, () => this.cluster.now());
  private readonly plots = new Plots(this.cluster);
  private readonly table = new Table(this.cluster, (node) => void this.drain(node));
  private feed: Feed | undefined;
  private drawn = false;

  constructor() {
    at<HTMLFormElement>("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.open(at<HTMLInputElement>("key").value.trim());
    });
    at("leave").addEventListener("click", () => this.leave());
    at("banner").addEventListener("click", () => this.feed?.again());
    setInterval(() => this.draw(), DRAW_EVERY_MS);
    void this.begin();
  }

  /** Tries what there is: the key this tab has, or a development node that asks for none. */
  private async begin(): Promise<void> {
    try {
      await this.door.token();
      this.enter();
    } catch (error) {
      this.gate(error instanceof NotLetIn && error.code !== "key_required" ? error.message : error instanceof NotLetIn ? "" : "The node does not answer.");
    }
  }

  private async open(key: string): Promise<void> {
    const enter = at<HTMLButtonElement>("enter");
    enter.disabled = true;
    at("key-error").textContent = "";
    try {
      await this.door.open(key);
      at<HTMLInputElement>("key").value = "";
      this.enter();
    } catch (error) {
      this.gate(error instanceof NotLetIn ? said(error) : "The node does not answer.");
    } finally {
      enter.disabled = false;
    }
  }

  private gate(error: string): void {
    this.feed?.close();
    this.feed = undefined;
    document.body.dataset["screen"] = "gate";
    at("gate").hidden = false;
    at("leave").hidden = true;
    at("key-error").textContent = error;
    at("key").focus();
    this.draw();
  }

  private enter(): void {
    document.body.dataset["screen"] = "page";
    at("gate").hidden = true;
    at("leave").hidden = !this.door.hasKey;
    this.feed = new Feed(this.door, this.cluster, () => this.soon(), (error) => this.gate(said(error)));
    this.find.begin();
  }

  private leave(): void {
    this.door.shut();
    this.feed?.close();
    location.reload();
  }

  /** Draws once for everything that comes in one turn. */
  private soon(): void {
    if (this.drawn) return;
    this.drawn = true;
    requestAnimationFrame(() => {
      this.drawn = false;
      this.draw();
    });
  }

  private draw(): void {
    const standing = this.feed?.standing;
    pill(standing);
    if (standing === undefined) return;
    const nodes = this.cluster.nodes();
    const old = standing.state !== "online" || standing.staleSince > 0;
    banner(standing, this.cluster.now());
    this.table.draw(standing.node, old);
    this.plots.draw();
    at("nodes").hidden = nodes.length === 0;
    const empty = at("nodes-empty");
    empty.hidden = nodes.length > 0;
    empty.textContent = standing.read ? "No node has said anything yet. Each does within five seconds of its start." : "Reading the nodes…";
    at("summary").textContent = summary(nodes);
  }

  private async drain(node: Node): Promise<void> {
    const others = this.cluster.nodes().filter((other) => other.name !== node.name && !isGone(other) && other.standing !== "draining");
    const { connections = 0, row } = node.lease ?? {};
    const many = `${show.count(connections)} ${connections === 1 ? "connection" : "connections"}`;
    const text =
      others.length > 0
        ? `Its ${many} move to ${others.length === 1 ? "the other node" : `the ${others.length} other nodes`} within about ${show.span(1000 * (row?.drain_seconds ?? 0) + 1000)}, each session going on where it is. Then the process ends; whoever supervises it may start another.`
        : `There is no other node: its ${many} are sent away and come back when a node is there again. The process ends; whoever supervises it may start another.`;
    await this.deeds.ask({
      title: `Drain ${node.name}?`,
      text,
      verb: "Drain",
      doing: `Drain ${node.name}`,
      run: async () => {
        await this.api.post(`/v1/nodes/${encodeURIComponent(node.name)}/drain`);
        return "told to leave; its row shows how far it is";
      },
    });
  }
}

function said({ code, message }: NotLetIn): string {
  if (code === "key_unknown") return "This node knows no such key.";
  if (code === "key_lacks_manage") return "This key lacks the scope “manage”.";
  return message;
}

function summary(nodes: readonly Node[]): string {
  const living = nodes.filter((node) => !isGone(node));
  const sum = (of: (node: Node) => number): string => show.count(living.reduce((all, node) => all + of(node), 0));
  const generations = new Set(living.map(({ lease }) => lease?.row?.generation ?? "").filter(Boolean));
  const parts = [
    `${living.length} ${living.length === 1 ? "lives" : "live"}`,
    `${sum(({ lease }) => lease?.connections ?? 0)} connections`,
    `${sum(({ lease }) => lease?.sessions ?? 0)} sessions`,
    `${sum(({ lease }) => total(lease?.row?.gaps))} gaps`,
  ];
  if (generations.size > 0) parts.push(generations.size === 1 ? `generation ${[...generations].join()}` : `${generations.size} generations: a failover is under way`);
  return living.length === 0 ? "" : parts.join(" · ");
}

function pill(standing: Standing | undefined): void {
  const [state, text] = standing === undefined ? ["closed", "Not connected"] : standing.staleSince > 0 && standing.state === "online" ? ["stale", "Stale"] : [standing.state, STATES[standing.state]];
  at("pill").dataset["state"] = state;
  const where = standing?.state === "online" && standing.node !== "" ? ` · ${standing.node}` : "";
  const [shown, whole] = [at("pill-text"), text + where];
  if (shown.textContent !== whole) fill(shown, text, where !== "" && h("span", {}, where));
}

const STATES: Record<Standing["state"], string> = { connecting: "Connecting", online: "Live", offline: "Reconnecting", blocked: "Refused", closed: "Closed" };

function banner({ state, why, staleSince }: Standing, now: number): void {
  const text =
    state === "blocked"
      ? `The node refused this page (${why}). What is shown is from before. Click to try again.`
      : state === "offline"
        ? "The connection to the node is lost; the page goes on by itself as soon as it is back. What is shown is from before. Click to try now."
        : staleSince > 0
          ? `Stale since ${show.clock(staleSince)} (${show.span(now - staleSince)}): the node cannot reach the broker, so what is shown is from before, and nobody is declared gone. Clients stay connected.`
          : "";
  const shown = at("banner");
  shown.hidden = text === "";
  shown.dataset["state"] = state === "online" ? "stale" : state;
  if (shown.textContent !== text) shown.textContent = text;
}

new Page();
