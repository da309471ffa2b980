/**
 * Contour lines of the country around a recorded drive, from the heights the receiver wrote down along it (inverse
 * distance weighting, then marching squares). courier.ts draws them. Pure; never claims heights far off the track.
 */

/** A position with its height, in any plane coordinates. */
export interface Spot {
  x: number;
  y: number;
  height: number;
}
/** One straight piece of a contour line. */
export type Piece = [number, number, number, number];
/** All pieces of one height. */
export interface Contour {
  height: number;
  pieces: Piece[];
}

const COLUMNS = 72;
const ROWS = 48;
/** Softens the weighting, so that single readings do not make rings around themselves. */
const SOFTENING = 0.02;

function heights(spots: readonly Spot[], width: number, height: number): Float64Array {
  const grid = new Float64Array((COLUMNS + 1) * (ROWS + 1));
  const soft = width * height * SOFTENING;
  for (let row = 0; row <= ROWS; row += 1) {
    for (let column = 0; column <= COLUMNS; column += 1) {
      const x = (column / COLUMNS) * width;
      const y = (row / ROWS) * height;
      let sum = 0;
      let weights = 0;
      for (const spot of spots) {
        const weight = 1 / ((spot.x - x) ** 2 + (spot.y - y) ** 2 + soft) ** 1.5;
        sum += weight * spot.height;
        weights += weight;
      }
      grid[row * (COLUMNS + 1) + column] = sum / weights;
    }
  }
  return grid;
}

function cut(corners: readonly [number, number, number][], level: number): [number, number][] {
  const points: [number, number][] = [];
  for (let i = 0; i < 4; i += 1) {
    const [ax, ay, a] = corners[i] as [number, number, number];
    const [bx, by, b] = corners[(i + 1) % 4] as [number, number, number];
    if (a < level === b < level) continue;
    const share = (level - a) / (b - a);
    points.push([ax + (bx - ax) * share, ay + (by - ay) * share]);
  }
  return points;
}

/** Heights over a plane: `COLUMNS` + 1 by `ROWS` + 1 corners in rows, from the north. */
export interface Relief {
  grid: Float64Array;
  columns: number;
  rows: number;
  lowest: number;
  highest: number;
}

/** The heights between and around the spots, over a plane of `width` × `height`. */
export function relief(spots: readonly Spot[], width: number, height: number): Relief | undefined {
  if (spots.length === 0) return undefined;
  const grid = heights(spots, width, height);
  const lowest = grid.reduce((a, b) => Math.min(a, b));
  const highest = grid.reduce((a, b) => Math.max(a, b));
  return { grid, columns: COLUMNS + 1, rows: ROWS + 1, lowest, highest };
}

/** Contours every `step` units of height. */
export function contours({ grid, lowest, highest }: Relief, width: number, height: number, step: number): Contour[] {
  const at = (column: number, row: number): [number, number, number] => [
    (column / COLUMNS) * width,
    (row / ROWS) * height,
    grid[row * (COLUMNS + 1) + column] as number,
  ];
  const lines: Contour[] = [];
  for (let level = Math.ceil(lowest / step) * step; level <= highest; level += step) {
    const pieces: Piece[] = [];
    for (let row = 0; row < ROWS; row += 1) {
      for (let column = 0; column < COLUMNS; column += 1) {
        const points = cut([at(column, row), at(column + 1, row), at(column + 1, row + 1), at(column, row + 1)], level);
        for (let i = 0; i + 1 < points.length; i += 2) {
          const [from, to] = [points[i] as [number, number], points[i + 1] as [number, number]];
          pieces.push([from[0], from[1], to[0], to[1]]);
        }
      }
    }
    lines.push({ height: level, pieces });
  }
  return lines;
}
