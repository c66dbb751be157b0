// Maps of an image: ids from 24-bit PNGs, classes from grey PNGs, and grey PNGs from classes.

export const OPEN = 255, VOID = 254, SEVERAL = 253;

async function pixels(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

// Uint32Array [H * W]: R + 256 G + 65536 B.
export async function ids(blob) {
  const { data } = await pixels(blob);
  const words = new Uint32Array(data.buffer);
  for (let i = 0; i < words.length; i++) words[i] &= 0xffffff; // little-endian RGBA, without alpha
  return words;
}

// Uint8Array [H * W] of a grey PNG.
export async function grey(blob) {
  const { data } = await pixels(blob);
  const out = new Uint8Array(data.length / 4);
  for (let i = 0; i < out.length; i++) out[i] = data[4 * i];
  return out;
}

// The pixels of each item: positions sorted by item, and where each item's begin.
export class ItemIndex {
  constructor(asked) {
    let most = 0;
    for (const id of asked) if (id > most) most = id;
    this.starts = new Uint32Array(most + 2);
    for (const id of asked) this.starts[id + 1]++;
    this.starts[1] = 0; // those that are not asked
    for (let i = 1; i < this.starts.length; i++) this.starts[i] += this.starts[i - 1];
    const next = this.starts.slice();
    this.positions = new Uint32Array(this.starts[most + 1]);
    asked.forEach((id, p) => { if (id) this.positions[next[id]++] = p; });
  }
  of(item) { return this.positions.subarray(this.starts[item], this.starts[item + 1]); }
}

// Edges between an item and what is not it, as a path in pixel coordinates.
export function outline(asked, width, height, item, [top, left, bottom, right]) {
  const path = new Path2D();
  const inside = (row, col) => row >= 0 && col >= 0 && row < height && col < width
    && asked[row * width + col] === item;
  for (let row = top; row <= bottom; row++) { // horizontal edges, joined into runs
    let from = -1;
    for (let col = left; col <= right; col++) {
      const edge = col < right && inside(row, col) !== inside(row - 1, col);
      if (edge && from < 0) from = col;
      if (!edge && from >= 0) { path.moveTo(from, row); path.lineTo(col, row); from = -1; }
    }
  }
  for (let col = left; col <= right; col++) {
    let from = -1;
    for (let row = top; row <= bottom; row++) {
      const edge = row < bottom && inside(row, col) !== inside(row, col - 1);
      if (edge && from < 0) from = row;
      if (!edge && from >= 0) { path.moveTo(col, from); path.lineTo(col, row); from = -1; }
    }
  }
  return path;
}

const CRC = (() => {
  const table = new Uint32Array(256);
  for (let n = 0; n < 256; n++) {
    let c = n;
    for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
    table[n] = c >>> 0;
  }
  return table;
})();

function chunk(type, data) {
  const out = new Uint8Array(12 + data.length), view = new DataView(out.buffer);
  view.setUint32(0, data.length);
  out.set([...type].map((letter) => letter.charCodeAt(0)), 4);
  out.set(data, 8);
  let crc = 0xffffffff;
  for (let i = 4; i < 8 + data.length; i++) crc = CRC[(crc ^ out[i]) & 255] ^ (crc >>> 8);
  view.setUint32(8 + data.length, (crc ^ 0xffffffff) >>> 0);
  return out;
}

// An 8-bit grey PNG, without loss.
export async function greyPng(values, width, height) {
  const raw = new Uint8Array((width + 1) * height);
  for (let row = 0; row < height; row++) {
    raw.set(values.subarray(row * width, (row + 1) * width), row * (width + 1) + 1);
  }
  const packed = new Blob([raw]).stream().pipeThrough(new CompressionStream("deflate"));
  const data = new Uint8Array(await new Response(packed).arrayBuffer());
  const head = new Uint8Array(13), view = new DataView(head.buffer);
  view.setUint32(0, width); view.setUint32(4, height);
  head.set([8, 0, 0, 0, 0], 8);
  return new Blob([
    new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]),
    chunk("IHDR", head), chunk("IDAT", data), chunk("IEND", new Uint8Array(0)),
  ], { type: "image/png" });
}
