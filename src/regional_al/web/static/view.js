// The canvas: an image with what is asked and answered, zoom and pan.

import { OPEN, SEVERAL, VOID, outline } from "./maps.js";

const DIM = 0x90, DIM_SMALL = 0x58; // how dark what is not asked is; around small items less
const SLACK = 90; // pixels of the canvas that may be empty beside a zoomed image

export class View {
  constructor(canvas, { onPick, onPaint }) {
    Object.assign(this, { canvas, onPick, onPaint });
    this.context = canvas.getContext("2d");
    this.scale = 1; this.left = 0; this.top = 0; this.width = 0; this.height = 0; this.opacity = 0.45;
    this.image = null; this.painting = false; this.hint = null;
    this.pointers = new Map(); this.moved = false; this.pinch = 0;
    new ResizeObserver(() => { this.resize(); this.draw(); }).observe(canvas);
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomAt(event.offsetX, event.offsetY, Math.exp(-event.deltaY * 0.0015));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, (event) => this.up(event));
    }
    canvas.addEventListener("dblclick", (event) => this.onPaint("double", this.pixel(event), event));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    this.resize();
  }

  // What was in the middle stays there, and as large in relation to the canvas.
  resize() {
    if (!this.canvas.clientWidth || !this.canvas.clientHeight) return; // another view is shown
    const ratio = window.devicePixelRatio || 1, before = this.image && this.width ? this.fitting() : 0;
    const [x, y] = [(this.width / 2 - this.left) / this.scale, (this.height / 2 - this.top) / this.scale];
    this.width = this.canvas.clientWidth; this.height = this.canvas.clientHeight;
    this.canvas.width = Math.max(1, Math.round(this.width * ratio));
    this.canvas.height = Math.max(1, Math.round(this.height * ratio));
    this.ratio = ratio;
    if (!before) return;
    this.scale *= this.fitting() / before;
    this.left = this.width / 2 - x * this.scale; this.top = this.height / 2 - y * this.scale;
    this.clamp();
  }

  // image: {bitmap, asked (Uint32Array), answer (Uint8Array), width, height, index (ItemIndex)}
  show(image, colors) {
    this.image = image; this.colors = colors; this.current = null; this.path = null;
    this.dim = image.items.length && image.items.every((one) => one.pixels < 50) ? DIM_SMALL : DIM;
    this.overlay = new OffscreenCanvas(image.width, image.height);
    this.over = this.overlay.getContext("2d");
    this.data = this.over.createImageData(image.width, image.height);
    this.words = new Uint32Array(this.data.data.buffer);
    this.repaint();
    this.fit();
  }

  word(value, asked) {
    if (!asked) return this.dim << 24;
    if (value === OPEN) return 0;
    const alpha = Math.round(255 * this.opacity) << 24;
    if (value === VOID) return alpha | 0x707070;
    if (value === SEVERAL) return alpha | 0xc040c0;
    const [r, g, b] = this.colors[value] || [255, 255, 255];
    return alpha | (b << 16) | (g << 8) | r;
  }

  // Colours of all pixels, or of some positions; `values` instead of what has been answered.
  repaint(positions = null, values = null) {
    if (!this.image) return;
    const { asked, answer } = this.image, source = values || answer;
    if (positions) for (const p of positions) this.words[p] = this.word(source[p], asked[p]);
    else for (let p = 0; p < asked.length; p++) this.words[p] = this.word(source[p], asked[p]);
    this.over.putImageData(this.data, 0, 0);
  }

  // Mark an item, and bring it into view.
  focus(item, zoom = true) {
    this.current = item;
    this.path = item && outline(this.image.asked, this.image.width, this.image.height, item.i, item.box);
    if (item && zoom) this.zoomTo(item.box);
    this.draw();
  }

  zoomTo([top, left, bottom, right]) {
    const size = Math.max(bottom - top, right - left);
    const around = Math.max(size * 1.2, Math.min(48, Math.max(this.image.width, this.image.height) / 4));
    const wanted = Math.min(this.width, this.height) / (size + 2 * around);
    this.scale = Math.max(this.fitting(), Math.min(32, wanted));
    this.left = this.width / 2 - this.scale * (left + right) / 2;
    this.top = this.height / 2 - this.scale * (top + bottom) / 2;
    this.clamp();
  }

  fitting() { return Math.min(this.width / this.image.width, this.height / this.image.height); }
  fit() {
    if (!this.image) return;
    this.scale = this.fitting();
    this.left = (this.width - this.scale * this.image.width) / 2;
    this.top = (this.height - this.scale * this.image.height) / 2;
    this.draw();
  }

  zoomAt(x, y, factor) {
    if (!this.image) return;
    const scale = Math.max(this.fitting() / 2, Math.min(64, this.scale * factor));
    this.left = x - (x - this.left) * scale / this.scale;
    this.top = y - (y - this.top) * scale / this.scale;
    this.scale = scale;
    this.clamp(); this.draw();
  }
  pan(x, y) { this.left += x; this.top += y; this.clamp(); this.draw(); }

  clamp() { // an image smaller than the canvas is centred, a larger one covers it
    for (const [side, length, size] of [["left", this.width, this.image.width], ["top", this.height, this.image.height]]) {
      const shown = size * this.scale;
      this[side] = shown <= length ? (length - shown) / 2 : Math.min(SLACK, Math.max(length - shown - SLACK, this[side]));
    }
  }

  pixel(event) {
    const col = Math.floor((event.offsetX - this.left) / this.scale);
    const row = Math.floor((event.offsetY - this.top) / this.scale);
    if (!this.image || row < 0 || col < 0 || row >= this.image.height || col >= this.image.width) return null;
    return { row, col, position: row * this.image.width + col };
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    this.moved = false;
    if (this.pointers.size === 2) { this.pinch = this.spread(); this.onPaint("cancel", null, event); }
    else if (this.painting && event.button === 0 && !event.shiftKey) this.onPaint("down", this.pixel(event), event);
  }
  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) { if (this.painting) this.onPaint("hover", this.pixel(event), event); return; }
    const dx = event.offsetX - before.x, dy = event.offsetY - before.y;
    if (Math.abs(dx) + Math.abs(dy) > 3) this.moved = true;
    if (this.pointers.size === 2) {
      this.pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
      const spread = this.spread(), all = [...this.pointers.values()];
      this.pan(dx / 2, dy / 2);
      this.zoomAt((all[0].x + all[1].x) / 2, (all[0].y + all[1].y) / 2, spread / (this.pinch || spread));
      this.pinch = spread;
      return;
    }
    if (this.painting && !(event.buttons & 6) && !event.shiftKey) {
      this.pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
      this.onPaint("move", this.pixel(event), event);
    } else if (this.moved) {
      this.pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
      this.pan(dx, dy);
    }
  }
  up(event) {
    const single = this.pointers.size === 1;
    this.pointers.delete(event.pointerId);
    if (!single || event.type === "pointercancel") return;
    if (this.painting && !event.shiftKey && event.button === 0) this.onPaint("up", this.pixel(event), event);
    else if (!this.moved) { const at = this.pixel(event); if (at) this.onPick(at, event); }
  }
  spread() {
    const [a, b] = [...this.pointers.values()];
    return Math.hypot(a.x - b.x, a.y - b.y);
  }

  draw() {
    if (this.due) return;
    this.due = requestAnimationFrame(() => { this.due = 0; this.now(); });
  }

  now() {
    const c = this.context;
    c.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    c.clearRect(0, 0, this.width, this.height);
    if (!this.image) return;
    const place = [this.left, this.top, this.image.width * this.scale, this.image.height * this.scale];
    c.imageSmoothingEnabled = this.scale < 3;
    c.drawImage(this.image.bitmap, ...place);
    c.imageSmoothingEnabled = false;
    c.drawImage(this.overlay, ...place);
    if (this.path) {
      c.save();
      c.translate(this.left, this.top); c.scale(this.scale, this.scale);
      for (const [color, width] of [["#000", 4], ["#fff", 2]]) {
        c.strokeStyle = color; c.lineWidth = width / this.scale; c.lineCap = "square"; c.stroke(this.path);
      }
      c.restore();
      this.crosshair(c);
    }
    if (this.hint) this.hint(c, this);
  }

  // Lines towards an item that is too small to be seen at once.
  crosshair(c) {
    const [top, left, bottom, right] = this.current.box;
    if (Math.max(bottom - top, right - left) * this.scale > 60) return;
    const x = this.left + this.scale * (left + right) / 2, y = this.top + this.scale * (top + bottom) / 2;
    const gap = this.scale * Math.max(bottom - top, right - left) / 2 + 8, long = gap + 22;
    for (const [color, width] of [["#000", 4], ["#fff", 1.5]]) {
      c.strokeStyle = color; c.lineWidth = width;
      c.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        c.moveTo(x + dx * gap, y + dy * gap); c.lineTo(x + dx * long, y + dy * long);
      }
      c.stroke();
    }
  }
}
