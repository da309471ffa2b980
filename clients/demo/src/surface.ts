/**
 * Canvases that stay sharp and keep the page's colours. Every drawing part makes one Surface and asks it for a
 * context scaled to CSS pixels. Never draws anything itself.
 */

/** Names of the colours drawings use; each is the CSS variable of that name. */
const INKS = ["ink", "dim", "faint", "line", "soft", "panel", "sunk", "land", "hill", "contour", "route", "live", "replay", "bad"] as const;
export type Inks = Record<(typeof INKS)[number], string>;

let inks: Inks | undefined;
const dark = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set<() => void>();
dark.addEventListener("change", () => {
  inks = undefined;
  for (const listener of listeners) listener();
});

/** The colours of the present scheme. */
export function palette(): Inks {
  if (inks === undefined) {
    const style = getComputedStyle(document.documentElement);
    inks = Object.fromEntries(INKS.map((name) => [name, style.getPropertyValue(`--${name}`).trim()])) as Inks;
  }
  return inks;
}

/** Whether the reader asked for less motion. */
export const still = matchMedia("(prefers-reduced-motion: reduce)");

/** One canvas, measured once per change of its size. */
export class Surface {
  width = 0;
  height = 0;
  /** Set when the size or the colours changed; whoever draws clears it. */
  dirty = true;
  private readonly context: CanvasRenderingContext2D;

  constructor(readonly canvas: HTMLCanvasElement) {
    const context = canvas.getContext("2d");
    if (context === null) throw new Error("this browser has no 2d canvas");
    this.context = context;
    listeners.add(() => (this.dirty = true));
    new ResizeObserver(([entry]) => {
      if (entry === undefined) return;
      this.width = entry.contentRect.width;
      this.height = entry.contentRect.height;
      this.dirty = true;
    }).observe(canvas);
  }

  /** A cleared context in CSS pixels, or undefined while the canvas has no size. */
  open(): CanvasRenderingContext2D | undefined {
    if (this.width === 0 || this.height === 0) return undefined;
    const scale = devicePixelRatio;
    const width = Math.round(this.width * scale);
    const height = Math.round(this.height * scale);
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    this.context.setTransform(scale, 0, 0, scale, 0, 0);
    this.context.clearRect(0, 0, this.width, this.height);
    this.dirty = false;
    return this.context;
  }
}

/** Makes an element with a class and text. */
export function element<K extends keyof HTMLElementTagNameMap>(tag: K, name = "", text = ""): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  if (name !== "") made.className = name;
  if (text !== "") made.textContent = text;
  return made;
}

/** The element with this id. */
export function byId<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`index.html lacks #${id}`);
  return found as T;
}

/** Writes text only where it differs, so that an unchanged page costs no layout. */
export function say(target: HTMLElement, text: string): void {
  if (target.textContent !== text) target.textContent = text;
}
