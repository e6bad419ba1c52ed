"use strict";
/* Panels drawn on canvases: axes, lines, points and the contours of the loss of a line. */

/* Okabe and Ito, Color Universal Design, 2008: told apart by the colour-blind; lines differ in dashes and markers, too. */
const COLORS = {path: "#0072B2", truth: "#00795A", data: "#8a8a8a", contour: "#c4c4c4", alarm: "#B5460F", ink: "#1b1b1b"};
const VARIANTS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F"];
const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3], [], [7, 3], [2, 3], [9, 3, 2, 3]];
const SHAPES = ["circle", "square", "triangle", "diamond", "circle", "square", "triangle", "diamond"];
const FONT = "12px system-ui, sans-serif";
const EDGE = {left: 62, right: 24, top: 30, bottom: 40};

/* A number for people: few digits, no long row of zeros. */
function short(value, digits = 4) {
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "not a number";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e6 || size < 1e-3)) return value.toExponential(Math.max(0, digits - 2)).replace("e+", "e");
  return String(Number(value.toPrecision(digits)));
}

function linearTicks(low, high, wanted) {
  const raw = (high - low) / wanted, unit = 10 ** Math.floor(Math.log10(raw));
  const step = unit * [1, 2, 5, 10].find(factor => unit * factor >= raw);
  const ticks = [];
  for (let k = Math.ceil(low / step); k * step <= high + 1e-9 * step; k++) ticks.push(k * step);
  return ticks;
}

function logTicks(low, high, wanted) {
  const from = Math.ceil(Math.log10(low) - 1e-9), to = Math.floor(Math.log10(high) + 1e-9);
  const every = Math.max(1, Math.ceil((to - from + 1) / wanted));
  const factors = to > from ? [1] : [1, 2, 5];
  const ticks = [];
  for (let k = from - 1; k <= to + 1; k += every) ticks.push(...factors.map(factor => factor * 10 ** k));
  return ticks.filter(tick => tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9));
}

class Panel {
  constructor(canvas, title, x, y) {
    Object.assign(this, {canvas, title, labels: {x, y}, context: canvas.getContext("2d")});
  }

  /* Clear the panel and draw its axes; logX and logY are scales. */
  begin(x, y, {logX = false, logY = false} = {}) {
    const ratio = window.devicePixelRatio || 1, {clientWidth: width, clientHeight: height} = this.canvas;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    Object.assign(this, {width, height, x, y, scaleX: logX ? Math.log10 : Number, scaleY: logY ? Math.log10 : Number});
    this.logX = logX;
    this.logY = logY;
    this.entries = [];
    const c = this.context;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, width, height);
    c.font = FONT;
    this.axes();
  }

  toX(value) { return EDGE.left + this.part(value, this.x, this.scaleX) * (this.width - EDGE.left - EDGE.right); }

  toY(value) {
    return this.height - EDGE.bottom - this.part(value, this.y, this.scaleY) * (this.height - EDGE.top - EDGE.bottom);
  }

  part(value, [low, high], scale) {
    const found = (scale(value) - scale(low)) / (scale(high) - scale(low));
    return Math.max(-20, Math.min(20, found));
  }

  /* The values under a pointer. */
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const value = (part, [low, high], log) => log ? low * (high / low) ** part : low + part * (high - low);
    const across = (event.clientX - box.left - EDGE.left) / (this.width - EDGE.left - EDGE.right);
    const up = (this.height - EDGE.bottom - (event.clientY - box.top)) / (this.height - EDGE.top - EDGE.bottom);
    return [value(across, this.x, this.logX), value(up, this.y, this.logY)];
  }

  axes() {
    const c = this.context, right = this.width - EDGE.right, bottom = this.height - EDGE.bottom;
    c.lineWidth = 1;
    c.setLineDash([]);
    c.fillStyle = COLORS.ink;
    c.textAlign = "center";
    c.textBaseline = "top";
    const xs = this.logX ? logTicks(...this.x, 6) : linearTicks(...this.x, Math.max(2, Math.floor(this.width / 90)));
    for (const tick of xs) {
      c.strokeStyle = "#e8e8e8";
      this.stroke([[this.toX(tick), EDGE.top], [this.toX(tick), bottom]]);
      c.fillText(short(tick, 3), this.toX(tick), bottom + 5);
    }
    c.textAlign = "right";
    c.textBaseline = "middle";
    for (const tick of this.logY ? logTicks(...this.y, 6) : linearTicks(...this.y, 5)) {
      c.strokeStyle = "#e8e8e8";
      this.stroke([[EDGE.left, this.toY(tick)], [right, this.toY(tick)]]);
      c.fillText(short(tick, 3), EDGE.left - 6, this.toY(tick));
    }
    c.strokeStyle = "#6b6b6b";
    c.strokeRect(EDGE.left, EDGE.top, right - EDGE.left, bottom - EDGE.top);
    c.textAlign = "center";
    c.textBaseline = "alphabetic";
    c.fillText(this.labels.x, (EDGE.left + right) / 2, this.height - 8);
    c.save();
    c.translate(13, (EDGE.top + bottom) / 2);
    c.rotate(-Math.PI / 2);
    c.fillText(this.labels.y, 0, 0);
    c.restore();
    c.textAlign = "left";
    c.font = "600 13px system-ui, sans-serif";
    c.fillText(this.title, EDGE.left, 19);
    c.font = FONT;
  }

  stroke(points) {
    const c = this.context;
    c.beginPath();
    points.forEach(([x, y], i) => (i ? c.lineTo(x, y) : c.moveTo(x, y)));
    c.stroke();
  }

  inside(draw) {
    const c = this.context;
    c.save();
    c.beginPath();
    c.rect(EDGE.left, EDGE.top, this.width - EDGE.left - EDGE.right, this.height - EDGE.top - EDGE.bottom);
    c.clip();
    draw(c);
    c.restore();
  }

  /* A line; what is no number is a gap of it. A label makes it an entry of the legend. */
  line(xs, ys, {color = COLORS.path, width = 1.8, dash = [], label = "", count = xs.length} = {}) {
    this.inside(c => {
      c.strokeStyle = color;
      c.lineWidth = width;
      c.setLineDash(dash);
      c.lineJoin = "round";
      c.beginPath();
      let isOpen = false;
      for (let i = 0; i < count; i++) {
        const isDrawn = Number.isFinite(xs[i]) && Number.isFinite(ys[i]) && (!this.logY || ys[i] > 0);
        if (isDrawn) c[isOpen ? "lineTo" : "moveTo"](this.toX(xs[i]), this.toY(ys[i]));
        isOpen = isDrawn;
      }
      c.stroke();
    });
    if (label) this.entries.push({label, color, width, dash});
  }

  across(y, style) { if (Number.isFinite(y) && (!this.logY || y > 0)) this.line(this.x, [y, y], style); }

  /* Markers: circle, square, triangle, diamond, cross or star. */
  marks(xs, ys, {color = COLORS.data, size = 3, shape = "circle", label = "", fill = true} = {}) {
    this.inside(c => {
      c.setLineDash([]);
      for (let i = 0; i < xs.length; i++) {
        if (Number.isFinite(xs[i]) && Number.isFinite(ys[i]) && (!this.logY || ys[i] > 0)) {
          drawMark(c, this.toX(xs[i]), this.toY(ys[i]), shape, size, color, fill);
        }
      }
    });
    if (label) this.entries.push({label, color, shape, size: Math.max(size, 3.5), fill});
  }

  legend(corner = "right") {
    const c = this.context, line = 17;
    if (!this.entries.length) return;
    const width = 36 + Math.max(...this.entries.map(entry => c.measureText(entry.label).width));
    const left = corner.includes("left") ? EDGE.left + 6 : this.width - EDGE.right - width - 8;
    const height = line * this.entries.length + 4;
    const top = corner.includes("bottom") ? this.height - EDGE.bottom - height - 6 : EDGE.top + 6;
    c.fillStyle = "rgba(255, 255, 255, 0.86)";
    c.fillRect(left, top, width, height);
    c.textAlign = "left";
    c.textBaseline = "middle";
    this.entries.forEach((entry, i) => {
      const y = top + 2 + line * (i + 0.5);
      c.strokeStyle = entry.color;
      c.lineWidth = entry.width || 1;
      c.setLineDash(entry.dash || []);
      if (entry.dash) this.stroke([[left + 4, y], [left + 28, y]]);
      if (entry.shape) drawMark(c, left + 16, y, entry.shape, entry.size, entry.color, entry.fill !== false);
      c.fillStyle = COLORS.ink;
      c.fillText(entry.label, left + 33, y);
    });
    c.setLineDash([]);
  }

  /* The contours of the loss of a line over w and b, which are ellipses: |L'(theta - theta*)| = r. */
  contours(loss) {
    const corners = this.x.flatMap(w => this.y.map(b => excessOf(loss, w, b)));
    const most = Math.max(...corners), steps = Array.from({length: 97}, (_, i) => 2 * Math.PI * i / 96);
    for (let k = 0; k < 14; k++) {
      const r = Math.sqrt(most / 2.4 ** k);
      const ws = steps.map(angle => loss.w + r * Math.cos(angle) / loss.sd);
      const bs = steps.map((angle, i) => loss.b + r * Math.sin(angle) - loss.mean * (ws[i] - loss.w));
      this.line(ws, bs, {color: COLORS.contour, width: 1});
    }
  }
}

function excessOf(loss, w, b) {
  return (loss.sd * (w - loss.w)) ** 2 + (loss.mean * (w - loss.w) + (b - loss.b)) ** 2;
}

function drawMark(c, x, y, shape, size, color, fill) {
  c.fillStyle = fill ? color : "#ffffff";
  c.strokeStyle = color;
  c.lineWidth = 1.5;
  c.beginPath();
  if (shape === "circle") c.arc(x, y, size, 0, 2 * Math.PI);
  else if (shape === "square") c.rect(x - size, y - size, 2 * size, 2 * size);
  else if (shape === "triangle" || shape === "diamond") {
    const points = shape === "triangle" ? [[0, -1.2], [1.1, 0.9], [-1.1, 0.9]] : [[0, -1.3], [1.1, 0], [0, 1.3], [-1.1, 0]];
    points.forEach(([dx, dy], i) => (i ? c.lineTo(x + size * dx, y + size * dy) : c.moveTo(x + size * dx, y + size * dy)));
    c.closePath();
  } else if (shape === "cross") {
    c.lineWidth = 2.2;
    for (const way of [1, -1]) {
      c.moveTo(x - size, y - way * size);
      c.lineTo(x + size, y + way * size);
    }
  } else if (shape === "star") {
    for (let i = 0; i < 10; i++) {
      const r = i % 2 ? 0.42 * size : size, angle = Math.PI * (i / 5 - 0.5);
      c[i ? "lineTo" : "moveTo"](x + r * Math.cos(angle), y + r * Math.sin(angle));
    }
    c.closePath();
  }
  if (shape !== "cross") c.fill();
  if (shape === "cross" || !fill) c.stroke();
}

/* The least and the largest of some numbers, with a margin around them. */
function reach(values, margin = 0.06) {
  const finite = values.filter(Number.isFinite);
  const low = Math.min(...finite), high = Math.max(...finite), extra = margin * (high - low) || Math.abs(low) || 1;
  return [low - extra, high + extra];
}

/* The part of the plane of w and b around the least squares in which some points are. */
function around(loss, ws, bs) {
  const half = (values, centre) => {
    const away = Math.max(...values.filter(Number.isFinite).map(value => Math.abs(value - centre)));
    return 1.35 * Math.max(away, 0.05 * Math.abs(centre), 1e-3);
  };
  const w = half(ws, loss.w), b = half(bs, loss.b);
  return [[loss.w - w, loss.w + w], [loss.b - b, loss.b + b]];
}

/* The limits of a logarithmic axis for losses, of which those beyond the start are cut off. */
function lossRange(losses, floors) {
  const start = losses[0] > 0 ? losses[0] : Math.max(...losses.filter(Number.isFinite), 1e-12);
  const positive = [...losses, ...floors].filter(value => value > 0 && Number.isFinite(value));
  const low = Math.max(Math.min(...positive, start), 1e-9 * start);
  const high = Math.min(Math.max(...positive, start), 1e3 * start);
  return [low / 1.6, high * 1.6];
}
