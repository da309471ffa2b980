/**
 * The drawing that says what arrived when: each publication is a line from the moment the broker accepted it (top
 * edge) to the moment it reached this page (bottom edge). Live ones stand nearly upright; what a resume replayed
 * leans, and fans together where the session came back. tide.ts and report.ts draw with it. Never keeps anything.
 */
import type { Outage } from "./arrival.ts";
import { palette, type Surface } from "./surface.ts";

/** One line of the drawing, in ms of the page's clock. */
export interface Stroke {
  published: number;
  arrived: number;
  replayed: boolean;
  conflated: number;
}

const HATCH = 6;

function hatch(pen: CanvasRenderingContext2D, left: number, right: number, height: number, colour: string): void {
  pen.save();
  pen.beginPath();
  pen.rect(left, 0, right - left, height);
  pen.clip();
  pen.strokeStyle = colour;
  pen.globalAlpha = 0.35;
  pen.lineWidth = 1;
  pen.beginPath();
  for (let x = left - height; x < right; x += HATCH) {
    pen.moveTo(x, height);
    pen.lineTo(x + height, 0);
  }
  pen.stroke();
  pen.restore();
}

/** Draws strokes and outages of the window `from`…`to` over the whole surface. */
export function drawFan(surface: Surface, strokes: readonly Stroke[], outages: readonly Outage[], from: number, to: number): void {
  const pen = surface.open();
  if (pen === undefined) return;
  const { width, height } = surface;
  const inks = palette();
  const x = (at: number) => ((at - from) / (to - from)) * width;
  for (const outage of outages) {
    const left = Math.max(0, x(outage.from));
    const right = Math.min(width, x(outage.until ?? to));
    if (right > left) hatch(pen, left, right, height, inks.faint);
  }
  pen.strokeStyle = inks.line;
  pen.lineWidth = 1;
  pen.beginPath();
  pen.moveTo(0, 0.5);
  pen.lineTo(width, 0.5);
  pen.moveTo(0, height - 0.5);
  pen.lineTo(width, height - 0.5);
  pen.stroke();
  lines(pen, strokes, x, width, height, inks);
}

function lines(
  pen: CanvasRenderingContext2D,
  strokes: readonly Stroke[],
  x: (at: number) => number,
  width: number,
  height: number,
  inks: { live: string; replay: string },
): void {
  const dense = strokes.length > width / 2;
  pen.lineCap = "round";
  for (const replayed of [false, true]) {
    const colour = replayed ? inks.replay : inks.live;
    pen.strokeStyle = colour;
    pen.fillStyle = colour;
    pen.lineWidth = 1.25;
    pen.globalAlpha = replayed ? 0.75 : dense ? 0.45 : 0.8;
    pen.beginPath();
    const feet: number[] = [];
    for (const stroke of strokes) {
      if (stroke.replayed !== replayed) continue;
      const top = x(stroke.published);
      const foot = x(stroke.arrived);
      if (foot < -2 || top > width + 2) continue;
      pen.moveTo(top, 1);
      pen.lineTo(foot, height - 4);
      feet.push(top, foot);
    }
    pen.stroke();
    pen.globalAlpha = 1;
    for (let i = 0; i < feet.length; i += 2) {
      pen.fillRect((feet[i] as number) - 1, 0, 2, 4);
      pen.fillRect((feet[i + 1] as number) - 1, height - 5, 2, 5);
    }
  }
}
