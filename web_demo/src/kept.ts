import { cellOf, type Manifest, placeInWords, placement, type SegmentSpec, type StageSpec } from "vlmp-web";
import type { Photo } from "./protocol.js";

interface Cell {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/**
 * Which visual tokens are drawn over a photo. `numbered`: they are in the order of selection. `before`: those of the stage
 * before.
 */
export interface Shown {
  readonly manifest: Manifest;
  readonly tokens: readonly number[];
  readonly numbered: boolean;
  readonly before: readonly number[];
}

/** Draws a photo, and over it what the model still sees: all else is dark, less so what was left until this stage. */
export function drawKept(canvas: HTMLCanvasElement, photo: Photo, shown: Shown | null): void {
  const { preview } = photo;
  // Small photos are drawn larger, or the numbers could not be read.
  const scale = Math.max(1, Math.ceil(720 / preview.width));
  canvas.width = preview.width * scale;
  canvas.height = preview.height * scale;
  const context = canvas.getContext("2d")!;
  context.drawImage(preview, 0, 0, canvas.width, canvas.height);
  canvas.setAttribute("aria-label", inWords(photo, shown));
  if (shown === null) return;
  const { manifest, tokens } = shown;
  const number = new Map(tokens.map((token, place) => [token, place + 1]));
  const before = new Set(shown.before);
  for (const segment of manifest.image.segments) {
    for (let row = 0; row < segment.rows; row++) {
      for (let column = 0; column < segment.columns; column++) {
        const token = segment.first + row * segment.stride + column;
        const cell = onPhoto(cellAt(segment, row, column), manifest, photo, canvas.width, canvas.height);
        const order = number.get(token);
        if (order === undefined) darken(context, cell, before.has(token) ? "35%" : "65%");
        else mark(context, cell, shown.numbered ? String(order) : "");
      }
    }
  }
}

/** How many of the tokens lie wholly on what the photo was padded with. */
export function onPadding(photo: Photo, { manifest, tokens }: Shown): number {
  const { width, height } = photo;
  return tokens.filter((token) =>
    manifest.image.segments.every((segment) => {
      const place = cellOf(segment, token);
      if (place === null) return true;
      const { left, top, ...cell } = onPhoto(cellAt(segment, place.row, place.column), manifest, photo, width, height);
      return left >= width || top >= height || left + cell.width <= 0 || top + cell.height <= 0;
    }),
  ).length;
}

/** Where a stage stands, and what it keeps: "vision tower, block 2: 27 of 36". */
export function stageInWords(stage: StageSpec): string {
  return `${placeInWords(stage)}: ${stage.numKept} of ${stage.tokens}`;
}

/** How many tokens each stage has left: "32, then 16 of 144 tokens". */
export function countsInWords({ stages, image }: Manifest): string {
  const counts = stages.length > 0 ? stages.map(({ numKept }) => numKept) : [image.visualTokens];
  return `${counts.join(", then ")} of ${image.visualTokens} tokens`;
}

function inWords(photo: Photo, shown: Shown | null): string {
  const name = `The photo ${photo.name}`;
  if (shown === null) return name;
  return `${name}, of which ${shown.tokens.length} of ${shown.manifest.image.visualTokens} visual tokens are shown`;
}

/** A token's place in the fitted picture, in pixels of it. */
function cellAt({ rows, columns, box }: SegmentSpec, row: number, column: number): Cell {
  const width = (box[2] - box[0]) / columns;
  const height = (box[3] - box[1]) / rows;
  return { left: box[0] + column * width, top: box[1] + row * height, width, height };
}

/** From the fitted picture to a photo that is drawn `width` x `height` large. */
function onPhoto(cell: Cell, manifest: Manifest, photo: Photo, width: number, height: number): Cell {
  const place = placement(photo.width, photo.height, manifest.image);
  const [scaleX, scaleY] = [width / place.width, height / place.height];
  return {
    left: (cell.left - place.left) * scaleX,
    top: (cell.top - place.top) * scaleY,
    width: cell.width * scaleX,
    height: cell.height * scaleY,
  };
}

function darken(context: CanvasRenderingContext2D, { left, top, width, height }: Cell, share: string): void {
  context.fillStyle = `rgb(0 0 0 / ${share})`;
  context.fillRect(left, top, width, height);
}

function mark(context: CanvasRenderingContext2D, { left, top, width, height }: Cell, text: string): void {
  context.lineWidth = Math.max(2, width / 16);
  context.strokeStyle = "#ffd43b";
  context.strokeRect(left, top, width, height);
  if (text === "") return;
  context.font = `bold ${height * 0.5}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineWidth = height * 0.12;
  context.strokeStyle = "#000000";
  context.strokeText(text, left + width / 2, top + height / 2);
  context.fillStyle = "#ffd43b";
  context.fillText(text, left + width / 2, top + height / 2);
}
