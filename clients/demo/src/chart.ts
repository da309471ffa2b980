/**
 * The map under the courier: the recorded drive, contours from its own heights, a graticule, a scale. courier.ts owns
 * one. It loads no tiles and shows nothing that was not recorded.
 */
import { palette } from "./surface.ts";
import { contours, relief, type Contour, type Relief } from "./terrain.ts";

/** Latitude, longitude, and where recorded seconds since the start and metres above the sea. */
export type RoutePoint = [number, number, number?, number?];

const METRES_PER_DEGREE = 111_320;
const CONTOUR_STEP_M = 5;
/** Every how many contours one is drawn stronger and labelled. */
const MAJOR = 4;
const GRATICULE_DEGREES = 0.002;
/** Below this width the order's card lies under the map instead of beside it. */
const NARROW = 560;
const CARD_WIDTH = 260;
const CARD_HEIGHT = 196;

export class Chart {
  private width = 0;
  private height = 0;
  private scale = 1;
  private left = 0;
  private top = 0;
  private relief: Relief | undefined;
  private picture: { canvas: HTMLCanvasElement; key: string } | undefined;
  private readonly north: number;
  private readonly west: number;
  private readonly south: number;
  private readonly east: number;
  private readonly squeeze: number;
  private readonly contourPaths: { path: Path2D; major: boolean; height: number; label: [number, number] | undefined }[] = [];

  constructor(private readonly route: readonly RoutePoint[]) {
    const lats = route.map(([lat]) => lat);
    const lons = route.map(([, lon]) => lon);
    this.north = Math.max(...lats);
    this.south = Math.min(...lats);
    this.west = Math.min(...lons);
    this.east = Math.max(...lons);
    this.squeeze = Math.cos((((this.north + this.south) / 2) * Math.PI) / 180);
  }

  /** Fits the drive into this many CSS pixels; cheap when nothing changed. */
  fit(width: number, height: number): void {
    if (width === this.width && height === this.height) return;
    this.width = width;
    this.height = height;
    const narrow = width < NARROW;
    const free = narrow ? { x: 40, y: 52, w: width - 80, h: height - CARD_HEIGHT - 84 } : { x: CARD_WIDTH + 40, y: 36, w: width - CARD_WIDTH - 96, h: height - 72 };
    const wide = (this.east - this.west) * this.squeeze;
    const high = this.north - this.south;
    this.scale = Math.min(free.w / wide, free.h / high);
    this.left = free.x + (free.w - wide * this.scale) / 2;
    this.top = free.y + (free.h - high * this.scale) / 2;
    const spots = this.route.flatMap(([lat, lon, , height]) => {
      const [x, y] = this.place(lat, lon);
      return height === undefined ? [] : [{ x, y, height }];
    });
    this.relief = relief(spots, width, height);
    this.trace(this.relief === undefined ? [] : contours(this.relief, width, height, CONTOUR_STEP_M));
  }

  /** Where a position lies, in CSS pixels. */
  place(lat: number, lon: number): [number, number] {
    return [this.left + (lon - this.west) * this.squeeze * this.scale, this.top + (this.north - lat) * this.scale];
  }

  /** Draws everything that does not move: once per size and colours, then from a picture of it. */
  draw(pen: CanvasRenderingContext2D): void {
    const scale = devicePixelRatio;
    const key = [this.width, this.height, scale, palette().land].join();
    if (this.picture?.key !== key) {
      const canvas = document.createElement("canvas");
      canvas.width = Math.round(this.width * scale);
      canvas.height = Math.round(this.height * scale);
      const still = canvas.getContext("2d");
      if (still === null) return;
      still.scale(scale, scale);
      this.drawTint(still);
      this.drawContours(still);
      this.drawGraticule(still);
      this.drawRoute(still);
      this.drawScale(still);
      this.picture = { canvas, key };
    }
    pen.drawImage(this.picture.canvas, 0, 0, this.width, this.height);
  }

  private trace(lines: readonly Contour[]): void {
    this.contourPaths.length = 0;
    for (const { height, pieces } of lines) {
      const path = new Path2D();
      for (const [ax, ay, bx, by] of pieces) {
        path.moveTo(ax, ay);
        path.lineTo(bx, by);
      }
      const major = Math.round(height / CONTOUR_STEP_M) % MAJOR === 0;
      const piece = major ? pieces.find(([x, y]) => x > this.width * 0.72 && y > 30 && y < this.height - 60) : undefined;
      this.contourPaths.push({ path, major, height, label: piece && [piece[0], piece[1]] });
    }
  }

  /** Low land pale, high land tinted: one small picture, stretched smoothly. */
  private drawTint(pen: CanvasRenderingContext2D): void {
    if (this.relief === undefined) return;
    const { grid, columns, rows, lowest, highest } = this.relief;
    const canvas = document.createElement("canvas");
    canvas.width = columns;
    canvas.height = rows;
    const small = canvas.getContext("2d");
    if (small === null) return;
    small.fillStyle = palette().hill;
    grid.forEach((height, i) => {
      small.globalAlpha = (height - lowest) / (highest - lowest);
      small.fillRect(i % columns, Math.floor(i / columns), 1, 1);
    });
    pen.imageSmoothingQuality = "high";
    pen.drawImage(canvas, 0, 0, this.width, this.height);
  }

  private drawContours(pen: CanvasRenderingContext2D): void {
    const inks = palette();
    pen.strokeStyle = inks.contour;
    pen.fillStyle = inks.faint;
    pen.font = "500 10px ui-monospace, Menlo, monospace";
    for (const { path, major, height, label } of this.contourPaths) {
      pen.globalAlpha = major ? 0.9 : 0.45;
      pen.lineWidth = major ? 1.2 : 0.8;
      pen.stroke(path);
      if (label === undefined) continue;
      const text = `${height} m`;
      const wide = pen.measureText(text).width;
      pen.globalAlpha = 1;
      pen.fillStyle = inks.land;
      pen.fillRect(label[0] - wide / 2 - 3, label[1] - 7, wide + 6, 14);
      pen.fillStyle = inks.faint;
      pen.fillText(text, label[0] - wide / 2, label[1] + 3.5);
    }
    pen.globalAlpha = 1;
  }

  private drawGraticule(pen: CanvasRenderingContext2D): void {
    const inks = palette();
    pen.strokeStyle = inks.line;
    pen.fillStyle = inks.faint;
    pen.lineWidth = 1;
    pen.font = "10px ui-monospace, Menlo, monospace";
    const lonOf = (x: number) => this.west + (x - this.left) / (this.squeeze * this.scale);
    const latOf = (y: number) => this.north - (y - this.top) / this.scale;
    pen.globalAlpha = 0.55;
    pen.beginPath();
    const labels: [string, number, number][] = [];
    const firstLon = Math.ceil(lonOf(0) / GRATICULE_DEGREES);
    for (let n = firstLon; n * GRATICULE_DEGREES < lonOf(this.width); n += 1) {
      const x = Math.round(this.place(0, n * GRATICULE_DEGREES)[0]) + 0.5;
      pen.moveTo(x, 0);
      pen.lineTo(x, this.height);
      if (n % 2 === 0) labels.push([`${(n * GRATICULE_DEGREES).toFixed(3)}°E`, x + 4, 12]);
    }
    const firstLat = Math.ceil(latOf(this.height) / GRATICULE_DEGREES);
    for (let n = firstLat; n * GRATICULE_DEGREES < latOf(0); n += 1) {
      const y = Math.round(this.place(n * GRATICULE_DEGREES, 0)[1]) + 0.5;
      pen.moveTo(0, y);
      pen.lineTo(this.width, y);
      if (n % 2 === 0 && y > 24 && y < this.height - 40) labels.push([`${(n * GRATICULE_DEGREES).toFixed(3)}°N`, this.width - 58, y - 4]);
    }
    pen.stroke();
    pen.globalAlpha = 1;
    if (this.width >= NARROW) for (const [text, x, y] of labels) pen.fillText(text, x, y);
  }

  private drawRoute(pen: CanvasRenderingContext2D): void {
    const inks = palette();
    const path = new Path2D();
    this.route.forEach(([lat, lon], i) => {
      const [x, y] = this.place(lat, lon);
      if (i === 0) path.moveTo(x, y);
      else path.lineTo(x, y);
    });
    pen.lineJoin = pen.lineCap = "round";
    pen.strokeStyle = inks.land;
    pen.lineWidth = 7;
    pen.stroke(path);
    pen.strokeStyle = inks.route;
    pen.globalAlpha = 0.55;
    pen.lineWidth = 2;
    pen.stroke(path);
    pen.globalAlpha = 1;
    const start = this.route[0];
    if (start === undefined) return;
    const [x, y] = this.place(start[0], start[1]);
    pen.fillStyle = inks.panel;
    pen.strokeStyle = inks.ink;
    pen.lineWidth = 2;
    pen.beginPath();
    pen.rect(x - 5, y - 5, 10, 10);
    pen.fill();
    pen.stroke();
  }

  private drawScale(pen: CanvasRenderingContext2D): void {
    const inks = palette();
    const metres = 250;
    const long = (metres / METRES_PER_DEGREE) * this.scale;
    const narrow = this.width < NARROW;
    const x = narrow ? 14 : CARD_WIDTH + 20;
    const y = narrow ? 24 : this.height - 18;
    pen.strokeStyle = pen.fillStyle = inks.dim;
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.moveTo(x, y - 5);
    pen.lineTo(x, y);
    pen.lineTo(x + long, y);
    pen.lineTo(x + long, y - 5);
    pen.stroke();
    pen.font = "11px ui-sans-serif, system-ui, sans-serif";
    pen.fillText(`${metres} m`, x + 5, y - 5);
  }
}
