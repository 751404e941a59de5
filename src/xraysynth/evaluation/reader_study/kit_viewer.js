// The image: decoding ahead, zoom, pan, window and level, and the places marked on it.
"use strict";

const FULL = { window: 255, level: 127.5 };
const MARK = "#ffc65c";

function blob(address) {
  const characters = atob(address.slice(address.indexOf(",") + 1));
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i += 1) bytes[i] = characters.charCodeAt(i);
  return new Blob([bytes], { type: address.slice(5, address.indexOf(";")) });
}

/** Decoded images around the present one; the others stay on their sheets. */
class Pictures {
  constructor({ items, sheets, side_px: side }) {
    Object.assign(this, { items, sheets, side });
    this.blobs = new Map();
    this.decoded = new Map();
    this.coming = new Map();
  }

  decode({ sheet, x, y }) {
    if (!this.blobs.has(sheet)) this.blobs.set(sheet, blob(this.sheets[sheet]));
    return createImageBitmap(this.blobs.get(sheet), x, y, this.side, this.side);
  }

  /** The image if it is decoded, else undefined. */
  ready(index) {
    return this.decoded.get(index);
  }

  async ask(index) {
    if (this.decoded.has(index)) return this.decoded.get(index);
    if (!this.coming.has(index)) this.coming.set(index, this.decode(this.items[index]));
    const bitmap = await this.coming.get(index);
    this.coming.delete(index);
    this.decoded.set(index, bitmap);
    return bitmap;
  }

  /** Decodes the neighbours of an image and forgets those further away. */
  async around(index) {
    for (const [other, bitmap] of this.decoded) {
      if (other >= index - 2 && other <= index + 3) continue;
      this.decoded.delete(other);
      bitmap.close();
    }
    for (const other of [index + 1, index + 2, index - 1]) {
      if (this.items[other]) await this.ask(other);
    }
  }
}

/** A canvas with one image. Places are (x, y) in [0, 1] of the image, from its top left corner. */
class Viewer {
  constructor(canvas, { onplace, onview }) {
    Object.assign(this, { canvas, onplace, onview, marks: [], cursor: null, image: null });
    this.context = canvas.getContext("2d", { alpha: false });
    this.pointers = new Map();
    this.windowing = false; // whether the key for window and level is held
    new ResizeObserver(() => this.resize()).observe(canvas);
    for (const type of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) {
      canvas.addEventListener(type, (event) => this[type](event));
    }
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    this.reset();
  }

  /** Shows an image with the view reset; null shows black. */
  show(image, marks) {
    Object.assign(this, { image, marks, cursor: null, grey: null, shaded: null });
    this.reset();
    this.draw();
  }

  /** Puts in the image of a view that was shown black, as it stands by now. */
  fill(image) {
    Object.assign(this, { image, grey: null, shaded: null });
    this.draw();
  }

  reset() {
    Object.assign(this, { zoom: 1, x: 0.5, y: 0.5, invert: false }, FULL);
    this.changed();
  }

  changed() {
    this.onview(this);
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => this.draw());
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    this.draw();
  }

  /** Canvas pixels per image pixel. */
  get scale() {
    const { width, height } = this.canvas;
    return this.zoom * Math.min(width / this.image.width, height / this.image.height);
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const { canvas, context, image } = this;
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (!image) return;
    const [left, top] = this.toCanvas({ x: 0, y: 0 });
    const [right, bottom] = this.toCanvas({ x: 1, y: 1 });
    context.imageSmoothingQuality = "high";
    context.drawImage(this.shade(), left, top, right - left, bottom - top);
    this.marks.forEach((mark, i) => this.drawMark(mark, i + 1));
    if (this.cursor) this.drawCursor();
  }

  /** The image through window, level and inversion. */
  shade() {
    const isPlain = this.window === FULL.window && this.level === FULL.level && !this.invert;
    if (isPlain) return this.image;
    const { width, height } = this.image;
    this.shaded ??= Object.assign(document.createElement("canvas"), { width, height });
    const context = this.shaded.getContext("2d", { willReadFrequently: true });
    if (!this.grey) {
      context.drawImage(this.image, 0, 0);
      this.grey = context.getImageData(0, 0, width, height);
      this.output = new ImageData(width, height);
    }
    const table = new Uint32Array(256);
    for (let i = 0; i < 256; i += 1) {
      const shade = Math.round(((i - this.level) / this.window + 0.5) * 255);
      const clipped = Math.min(255, Math.max(0, shade));
      table[i] = 0xff000000 | ((this.invert ? 255 - clipped : clipped) * 0x010101);
    }
    const from = this.grey.data;
    const to = new Uint32Array(this.output.data.buffer);
    for (let i = 0; i < to.length; i += 1) to[i] = table[from[4 * i]];
    context.putImageData(this.output, 0, 0);
    return this.shaded;
  }

  drawMark(mark, number) {
    const ratio = window.devicePixelRatio || 1;
    const [x, y] = this.toCanvas(mark);
    const { context } = this;
    context.lineWidth = 2 * ratio;
    context.strokeStyle = MARK;
    context.beginPath();
    context.arc(x, y, 14 * ratio, 0, 2 * Math.PI);
    context.stroke();
    context.font = `600 ${13 * ratio}px system-ui, sans-serif`;
    context.lineWidth = 3 * ratio;
    context.strokeStyle = "#000";
    context.strokeText(String(number), x + 16 * ratio, y - 8 * ratio);
    context.fillStyle = MARK;
    context.fillText(String(number), x + 16 * ratio, y - 8 * ratio);
  }

  drawCursor() {
    const ratio = window.devicePixelRatio || 1;
    const [x, y] = this.toCanvas(this.cursor);
    const { context, canvas } = this;
    for (const [color, width] of [["#000", 3], [MARK, 1]]) {
      context.strokeStyle = color;
      context.lineWidth = width * ratio;
      context.beginPath();
      for (const gap of [-10 * ratio, 10 * ratio]) {
        context.moveTo(x + gap, y);
        context.lineTo(gap < 0 ? 0 : canvas.width, y);
        context.moveTo(x, y + gap);
        context.lineTo(x, gap < 0 ? 0 : canvas.height);
      }
      context.stroke();
    }
  }

  toCanvas({ x, y }) {
    const { width, height } = this.canvas;
    const across = (x - this.x) * this.image.width * this.scale;
    return [width / 2 + across, height / 2 + (y - this.y) * this.image.height * this.scale];
  }

  /** The place below a pointer; outside the image it lies outside [0, 1]. */
  toImage(event) {
    const box = this.canvas.getBoundingClientRect();
    const ratio = this.canvas.width / box.width;
    const across = (event.clientX - box.left) * ratio - this.canvas.width / 2;
    const down = (event.clientY - box.top) * ratio - this.canvas.height / 2;
    return {
      x: this.x + across / (this.scale * this.image.width),
      y: this.y + down / (this.scale * this.image.height),
    };
  }

  /** Enlarges by a factor and keeps the place `at` where it is on the screen. */
  enlarge(factor, at = { x: this.x, y: this.y }) {
    const zoom = clamp(this.zoom * factor, 1, 16);
    const kept = this.zoom / zoom;
    this.zoom = zoom;
    this.moveTo(at.x + (this.x - at.x) * kept, at.y + (this.y - at.y) * kept);
  }

  moveTo(x, y) {
    const reach = 0.5 - 0.5 / this.zoom; // nothing to look for beyond the image
    this.x = clamp(x, 0.5 - reach, 0.5 + reach);
    this.y = clamp(y, 0.5 - reach, 0.5 + reach);
    this.changed();
  }

  /** Moves the view by shares of what it shows. */
  pan(x, y) {
    this.moveTo(this.x + x / this.zoom, this.y + y / this.zoom);
  }

  shadeTo(window, level) {
    this.window = clamp(window, 5, 510);
    this.level = clamp(level, 0, 255);
    this.changed();
  }

  toggleInvert() {
    this.invert = !this.invert;
    this.changed();
  }

  /** Shows a cross hair in the middle of the view, to be placed; `stopMarking` takes it away. */
  startMarking() {
    this.cursor = { x: this.x, y: this.y };
    this.changed();
  }

  stopMarking() {
    this.cursor = null;
    this.changed();
  }

  /** Moves the cross hair by shares of the view, and the view with it where it would be left. */
  moveCursor(x, y) {
    const cursor = this.cursor;
    cursor.x = clamp(cursor.x + x / this.zoom, 0, 1);
    cursor.y = clamp(cursor.y + y / this.zoom, 0, 1);
    const half = 0.5 / this.zoom;
    this.moveTo(
      clamp(this.x, cursor.x - half, cursor.x + half),
      clamp(this.y, cursor.y - half, cursor.y + half),
    );
  }

  pointerdown(event) {
    if (!this.image) return;
    this.canvas.setPointerCapture(event.pointerId);
    if (!this.pointers.size) this.travelled = 0;
    this.pointers.set(event.pointerId, event);
  }

  pointermove(event) {
    if (!this.image) return;
    if (this.cursor && event.pointerType === "mouse" && !this.pointers.size) this.follow(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const move = [event.clientX - before.clientX, event.clientY - before.clientY];
    this.travelled += Math.hypot(...move);
    if (this.pointers.size === 2) this.pinch(before, event);
    else if (before.button === 2 || before.shiftKey || this.windowing) {
      this.shadeTo(this.window + move[0], this.level + move[1] / 2);
    } else {
      const [from, to] = [this.toImage(before), this.toImage(event)];
      this.moveTo(this.x + from.x - to.x, this.y + from.y - to.y);
    }
    // An event keeps the button of its gesture only on pointerdown.
    const { clientX, clientY } = event;
    const { button, shiftKey } = before;
    this.pointers.set(event.pointerId, { clientX, clientY, button, shiftKey });
  }

  pointerup(event) {
    const isClick = this.pointers.size === 1 && this.travelled < 6 && event.button === 0;
    this.pointers.delete(event.pointerId);
    const place = isClick && this.cursor ? this.toImage(event) : null;
    const isInside = place && [place.x, place.y].every((share) => share >= 0 && share <= 1);
    if (isInside) this.onplace(place);
  }

  pointercancel(event) {
    this.pointers.delete(event.pointerId);
  }

  follow(event) {
    const { x, y } = this.toImage(event);
    this.cursor = { x: clamp(x, 0, 1), y: clamp(y, 0, 1) };
    this.changed();
  }

  pinch(before, event) {
    const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, e]) => e);
    const distance = (a) => Math.hypot(a.clientX - other.clientX, a.clientY - other.clientY) || 1;
    const middle = (a) => ({
      clientX: (a.clientX + other.clientX) / 2,
      clientY: (a.clientY + other.clientY) / 2,
    });
    const [from, to] = [this.toImage(middle(before)), this.toImage(middle(event))];
    this.moveTo(this.x + from.x - to.x, this.y + from.y - to.y);
    this.enlarge(distance(event) / distance(before), this.toImage(middle(event)));
  }

  wheel(event) {
    event.preventDefault();
    if (this.image) this.enlarge(Math.exp(-event.deltaY / 500), this.toImage(event));
  }
}

function clamp(number, low, high) {
  return Math.min(high, Math.max(low, number));
}
