// Painting: brush, polygon, fill, superpixels and eraser, all within what is asked.

import { OPEN } from "./maps.js";

const KEPT = 30;

export class Painter {
  // view: a View; units(): Promise of the Uint32Array of superpixels; onChange(): after each change
  constructor(view, { units, onChange }) {
    Object.assign(this, { view, units, onChange });
    this.tool = "brush"; this.size = 8; this.value = 0;
    this.values = null; this.past = []; this.corners = []; this.last = null; this.strokes = 0;
  }

  // Begin with what stands, or with nothing.
  begin(values) { this.values = values.slice(); this.past = []; this.corners = []; this.strokes = 0; this.shown(); }
  end() { this.values = null; this.corners = []; }
  get dirty() { return this.past.length > 0; }

  shown(positions = null) { this.view.repaint(positions, this.values); this.view.draw(); this.onChange(); }
  keep() { this.past.push(this.values.slice()); if (this.past.length > KEPT) this.past.shift(); this.strokes++; }
  back() {
    if (this.corners.length) { this.corners.pop(); this.view.draw(); return true; }
    if (!this.past.length) return false;
    this.values = this.past.pop(); this.shown();
    return true;
  }
  replace(values) {
    this.keep();
    const { asked } = this.view.image;
    for (let p = 0; p < asked.length; p++) if (asked[p]) this.values[p] = values[p];
    this.shown();
  }
  get ink() { return this.tool === "erase" ? OPEN : this.value; }

  event(what, at) {
    if (!this.values) return;
    if (what === "cancel") { this.last = null; return; }
    if (this.tool === "brush" || this.tool === "erase") this.stroke(what, at);
    else if (this.tool === "polygon") this.corner(what, at);
    else if (what === "down" && at && this.tool === "fill") this.fill(at);
    else if (what === "down" && at && this.tool === "superpixel") this.superpixel(at);
  }

  stroke(what, at) {
    if (what === "down" && at) { this.keep(); this.last = at; this.dab(at, at); }
    else if (what === "move" && at && this.last) { this.dab(this.last, at); this.last = at; }
    else if (what === "up") this.last = null;
  }

  dab(from, to) {
    const { width, height, asked } = this.view.image, r = this.size / 2, touched = [];
    const steps = Math.max(Math.abs(to.row - from.row), Math.abs(to.col - from.col), 1);
    for (let s = 0; s <= steps; s++) {
      const row = from.row + (to.row - from.row) * s / steps, col = from.col + (to.col - from.col) * s / steps;
      for (let y = Math.max(0, Math.floor(row - r)); y <= Math.min(height - 1, Math.ceil(row + r)); y++) {
        for (let x = Math.max(0, Math.floor(col - r)); x <= Math.min(width - 1, Math.ceil(col + r)); x++) {
          const p = y * width + x;
          const near = (y - row) ** 2 + (x - col) ** 2 <= Math.max(0.25, (r - 0.5) ** 2 + 0.25);
          if (near && asked[p] && this.values[p] !== this.ink) { this.values[p] = this.ink; touched.push(p); }
        }
      }
    }
    if (touched.length) this.shown(touched);
  }

  corner(what, at) {
    if (what === "down" && at) { this.corners.push(at); this.view.draw(); }
    if (what === "double") this.close();
  }

  // Fill the polygon: pixels whose centre is inside (even-odd), and its corners.
  close() {
    const corners = this.corners.splice(0);
    if (corners.length < 3) { this.view.draw(); return false; }
    this.keep();
    const { width, height, asked } = this.view.image, touched = [];
    const set = (p) => { if (asked[p]) { this.values[p] = this.value; touched.push(p); } };
    for (let row = 0; row < height; row++) {
      const cuts = [];
      corners.forEach((a, i) => {
        const b = corners[(i + 1) % corners.length];
        if ((a.row <= row) !== (b.row <= row)) {
          cuts.push(a.col + (row - a.row) * (b.col - a.col) / (b.row - a.row));
        }
      });
      cuts.sort((one, other) => one - other);
      for (let i = 0; i + 1 < cuts.length; i += 2) {
        for (let col = Math.max(0, Math.ceil(cuts[i])); col <= Math.min(width - 1, Math.floor(cuts[i + 1])); col++) {
          set(row * width + col);
        }
      }
    }
    for (const corner of corners) set(corner.position);
    this.shown(touched);
    return true;
  }

  // Fill the connected pixels that have the value of the one clicked.
  fill(at) {
    const { width, height, asked } = this.view.image, from = this.values[at.position];
    if (!asked[at.position] || from === this.value) return;
    this.keep();
    const stack = [at.position], touched = [];
    this.values[at.position] = this.value;
    while (stack.length) {
      const p = stack.pop(), col = p % width, row = (p - col) / width;
      touched.push(p);
      for (const [q, there] of [[p - 1, col > 0], [p + 1, col + 1 < width], [p - width, row > 0], [p + width, row + 1 < height]]) {
        if (there && asked[q] && this.values[q] === from) { this.values[q] = this.value; stack.push(q); }
      }
    }
    this.shown(touched);
  }

  async superpixel(at) {
    const units = await this.units();
    if (!units || !this.values) return;
    this.keep();
    const { asked } = this.view.image, unit = units[at.position], touched = [];
    for (let p = 0; p < units.length; p++) {
      if (units[p] === unit && asked[p]) { this.values[p] = this.value; touched.push(p); }
    }
    this.shown(touched);
  }

  // The polygon that is being drawn.
  hint(c, view) {
    if (this.corners.length === 0) return;
    const at = ({ row, col }) => [view.left + (col + 0.5) * view.scale, view.top + (row + 0.5) * view.scale];
    for (const [color, width] of [["#000", 4], ["#fff", 2]]) {
      c.strokeStyle = color; c.lineWidth = width;
      c.beginPath();
      this.corners.forEach((corner, i) => { if (i) c.lineTo(...at(corner)); else c.moveTo(...at(corner)); });
      c.closePath(); c.stroke();
    }
    c.fillStyle = "#fff";
    for (const corner of this.corners) { c.beginPath(); c.arc(...at(corner), 4, 0, 7); c.fill(); }
  }
}
