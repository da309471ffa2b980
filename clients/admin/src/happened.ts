/**
 * The plot of what happened: resumes, and the gaps and rewinds that clients were told of, of all nodes together. Bars
 * instead of lines, since it is about moments. plots.ts owns one.
 */
import { PAST_MS, type Node } from "./cluster.ts";
import { fill, h, svg } from "./dom.ts";
import * as show from "./format.ts";
import { axis, HEIGHT, nice, WIDTH } from "./plots.ts";

/** One bar. */
const BIN_MS = 15_000;

export class Happened {
  readonly element: HTMLElement;
  private readonly figure = h("b", { class: "figure" });
  private readonly picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  private readonly top = h("span", { class: "top" });

  constructor() {
    const title = h("span", {}, h("i", { class: "key resumed" }), "Resumes ", h("i", { class: "key bad" }), "Gaps, rewinds");
    this.element = h("figure", { class: "plot", id: "plot-resumes" }, h("figcaption", {}, title, this.figure), h("div", { class: "area" }, this.picture, this.top, axis()));
  }

  draw(nodes: readonly Node[], now: number): void {
    const begin = now - PAST_MS;
    const bins = new Map<number, { resumes: number; bad: number }>();
    const sum = { resumes: 0, bad: 0 };
    for (const point of nodes.flatMap((node) => node.points)) {
      if (point.at < begin || point.resumes + point.gaps + point.rewinds === 0) continue;
      const at = Math.floor(point.at / BIN_MS) * BIN_MS;
      const bin = bins.get(at) ?? { resumes: 0, bad: 0 };
      bins.set(at, bin);
      for (const counts of [bin, sum]) {
        counts.resumes += point.resumes;
        counts.bad += point.gaps + point.rewinds;
      }
    }
    const high = nice(Math.max(4, ...[...bins.values()].map(({ resumes, bad }) => Math.max(resumes, bad))));
    const tall = (value: number): number => (value / high) * (HEIGHT - 10);
    const width = (BIN_MS / PAST_MS) * WIDTH;
    this.picture.replaceChildren(svg("line", { class: "rule", x1: 0, x2: WIDTH, y1: 9, y2: 9 }));
    for (const [at, { resumes, bad }] of bins) {
      const x = ((at - begin) / PAST_MS) * WIDTH;
      for (const [kind, value] of [["resumed", resumes], ["bad", bad]] as const)
        if (value > 0) this.picture.append(svg("rect", { class: `bar ${kind}`, x, width: width * 0.8, y: HEIGHT - tall(value), height: tall(value) }));
    }
    this.top.textContent = show.count(high);
    fill(this.figure, show.count(sum.resumes), sum.bad > 0 && h("span", { class: "bad" }, ` ${show.count(sum.bad)}`));
    this.picture.setAttribute("aria-label", `In the last 15 minutes: ${sum.resumes} resumes, ${sum.bad} gaps and rewinds`);
  }
}
