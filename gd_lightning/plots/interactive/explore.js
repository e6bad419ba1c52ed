"use strict";
/* The page of `explore`: it reads its inputs, trains, asks the theory, and draws. */

const problem = JSON.parse(document.getElementById("content").textContent);
const loss = lineLoss(problem.x, problem.y), theory = new Theory(problem, loss);
const count = problem.x.length;
const sizes = batchSizes(count);
const input = id => document.getElementById(id);
let settings = {...problem.settings};

const panels = {
  surface: new Panel(input("surface"), "Train loss over w and b, and the path", "w", "b"),
  curve: new Panel(input("curve"), "Train loss", "epochs", "train loss"),
  fit: new Panel(input("fit"), "Data and line", problem.feature, problem.target),
  map: new Panel(input("map"), "Which learning rates are stable", "batch size", "learning rate"),
};

/* 1, 2, 5, 10, 20, ... and all samples. */
function batchSizes(n) {
  const found = [];
  for (let unit = 1; unit < n; unit *= 10) found.push(...[1, 2, 5].map(factor => unit * factor).filter(size => size < n));
  return [...found, n];
}

/* The step of the slider: a round number, a hundredth of the limit of the whole batch or less. */
const lrStep = 10 ** Math.floor(Math.log10(2 / loss.lambdaMax) - 1);
const lrMost = Math.ceil(4 / loss.lambdaMax / lrStep) * lrStep;

function setUp() {
  const small = lrStep / 10;
  Object.assign(input("lr"), {min: small, max: lrMost, step: small});
  Object.assign(input("batch"), {min: 0, max: sizes.length - 1, step: 1});
  input("batch-number").max = count;
  for (const name of ["lr", "momentum", "epochs"]) {
    input(name).addEventListener("input", () => change(name, Number(input(name).value)));
    input(`${name}-number`).addEventListener("input", () => changeTo(name, input(`${name}-number`)));
  }
  input("batch").addEventListener("input", () => change("batchSize", sizes[Number(input("batch").value)]));
  input("batch-number").addEventListener("input", () => changeTo("batchSize", input("batch-number")));
  for (const name of ["w", "b", "seed"]) input(name).addEventListener("input", () => changeTo(name, input(name)));
  input("order").addEventListener("input", () => change("order", input("order").value));
  input("nesterov").addEventListener("input", () => change("nesterov", input("nesterov").checked));
  input("reset").addEventListener("click", () => { settings = {...problem.settings}; show(); });
  document.querySelector("form").addEventListener("submit", event => event.preventDefault());
  pointed("surface", ([w, b]) => { settings.w = rounded(w); settings.b = rounded(b); });
  pointed("map", ([size, lr]) => {
    settings.batchSize = Math.max(1, Math.min(count, Math.round(size)));
    settings.lr = Number(lr.toPrecision(3));
  });
  new ResizeObserver(() => show()).observe(document.querySelector(".panels"));
}

const rounded = value => Number(value.toPrecision(4));

/* Take a number that is typed, once it is one that can be used. */
function changeTo(name, field) {
  if (field.value !== "" && field.checkValidity()) change(name, Number(field.value), field);
}

function change(name, value, typedIn = null) {
  settings[name] = value;
  show(typedIn);
}

function pointed(name, take) {
  const canvas = input(name);
  const use = event => { take(panels[name].at(event)); show(); };
  canvas.style.cursor = "crosshair";
  canvas.addEventListener("pointerdown", event => { canvas.setPointerCapture(event.pointerId); use(event); });
  canvas.addEventListener("pointermove", event => { if (event.buttons) use(event); });
}

/* Train with the settings, and show everything; a field that is being typed in is left as it is. */
function show(typedIn = null) {
  const path = descend(problem, loss, settings), outcome = theory.outcome(settings);
  showInputs(typedIn);
  showReadings(path, outcome);
  drawSurface(path);
  drawCurve(path, outcome);
  drawFit(path);
  drawMap();
  Object.assign(window.explored, {settings: {...settings}, path, outcome});
}

function showInputs(typedIn) {
  const {lr, momentum, epochs, batchSize, w, b, seed} = settings;
  const values = {
    lr, momentum, epochs, "lr-number": lr, "momentum-number": momentum, "epochs-number": epochs,
    "batch-number": batchSize, w: Number(w.toPrecision(5)), b: Number(b.toPrecision(5)), seed, order: settings.order,
  };
  for (const [id, value] of Object.entries(values)) if (input(id) !== typedIn) input(id).value = value;
  input("batch").value = sizes.findLastIndex(size => size <= batchSize);
  input("nesterov").checked = settings.nesterov;
  input("nesterov").disabled = momentum === 0;
  const name = batchSize === count ? "batch" : batchSize === 1 ? "stochastic" : "mini-batch";
  const updates = batchesOf(count, settings).reduce((sum, [each]) => sum + each, 0);
  input("variant").textContent = `${name} gradient descent, ${updates} update${updates === 1 ? "" : "s"} an epoch`;
  input("orders").textContent = aboutOrders();
  input("command").textContent = commandOf();
}

function aboutOrders() {
  if (settings.order === "sequential") return "The order that fit has, too.";
  const held = settings.seed === problem.seed ? problem.orders[settings.order].length : 0;
  if (held >= settings.epochs) return "The orders that fit draws from this seed.";
  return `${held ? `After ${held} epochs as fit has them, the` : "The"} page draws orders of its own, not those of fit.`;
}

/* What trains the same run: a command, or a call in Python. It names what differs from the defaults, the start where it
   was moved. */
function commandOf() {
  const {text, isCall, isComplete} = problem.command, {mean, scale, targetMean} = problem.units, first = problem.settings;
  const options = [
    ["data.batch_size", settings.batchSize === count ? "full" : settings.batchSize, "full"],
    ["model.lr", settings.lr, null],
    ["model.momentum", settings.momentum, 0],
    ["model.nesterov", settings.nesterov && settings.momentum > 0, false],
    ["data.order", settings.order, "shuffled"],
    ["data.seed", settings.seed, 0],
    ["trainer.max_epochs", settings.epochs, 20],
  ].filter(([, value, usual]) => !isComplete || value !== usual);
  const isMoved = settings.w !== first.w || settings.b !== first.b;
  const start = {weight: settings.w / scale, bias: settings.b - settings.w * mean / scale + targetMean};
  if (!isCall) {
    const moved = isMoved ? [`--model.initialization '{weight: ${start.weight}, bias: ${start.bias}}'`] : [];
    return [text, ...options.map(([name, value]) => `--${name} ${value}`), ...moved].join(" ");
  }
  const python = value => typeof value === "string" ? `"${value}"` : value === true ? "True" : value === false ? "False" : value;
  const moved = isMoved ? [`initialization={"weight": ${start.weight}, "bias": ${start.bias}}`] : [];
  const named = options.map(([name, value]) => `${name.split(".")[1].replace("max_epochs", "epochs")}=${python(value)}`);
  return `gd_lightning.fit(${[text, ...named, ...moved].filter(Boolean).join(", ")})`;
}

function reading(id, value, text, kind = "") {
  const box = input(id);
  box.className = `reading ${kind}`;
  box.querySelector("strong").textContent = value;
  box.querySelector("p").textContent = text;
}

function showReadings(path, {limit, floor, target, epochs, verdict}) {
  const close = `${short(target, 3)} above the least-squares loss`;
  const far = Number.isFinite(epochs) ? `after ${epochs} epochs` : "after more than 10,000 epochs";
  const words = {
    "converges": ["Converges", `The loss is ${close} after ${epochs} of ${settings.epochs} epochs.`],
    "slow": ["Converges slowly", `The loss is ${close} ${far}; this run has ${settings.epochs}.`],
    "reaches its floor": ["Fluctuates", `It is stable, but the noise of its batches keeps it above ${close}.`],
    "diverges": ["Diverges", settings.lr < limit
      ? "In this order of the samples, epochs do not shrink the error."
      : `The learning rate ${short(settings.lr)} is not below the limit ${short(limit, 5)}.`],
  };
  reading("verdict", ...words[verdict], verdict === "reaches its floor" ? "" : verdict.replace("slow", "converges"));
  const whole = isWhole(count, settings);
  const drawn = whole ? "Exact, for all samples in each update." : "Expected, for samples drawn with replacement.";
  reading("limit", short(limit, 5), `${drawn} Yours is ${short(100 * settings.lr / limit, 3)} % of it.`);
  reading("floor", floor === Infinity ? "none" : short(floor, 3), floor === Infinity ? "Where it diverges, there is none."
    : whole ? "All samples make each update: there is no noise."
      : settings.order === "sequential" ? "Above the least squares; exact for this order."
        : settings.order === "shuffled" ? "Above the least squares; shuffled samples leave a lower one."
          : "Above the least squares, as expected value.");
  const end = path.loss[path.loss.length - 1];
  reading("loss", short(end), path.diverged
    ? `It passed all bounds at update ${path.update[path.update.length - 1]}.`
    : `At the start ${short(path.loss[0])}; the least squares have ${short(loss.least)}.`);
}

/* What is shown of the plane of w and b: the first start, and where it was moved to. */
function view() {
  return around(loss, [problem.settings.w, settings.w], [problem.settings.b, settings.b]);
}

function drawSurface(path) {
  const panel = panels.surface, [w, b] = view();
  panel.begin(w, b);
  panel.contours(loss);
  panel.line(path.w, path.b, {width: path.w.length > 300 ? 0.7 : 1.4, label: "path"});
  if (path.w.length <= 60) panel.marks(path.w, path.b, {color: COLORS.path, size: 2.5});
  const last = path.w.length - 1;
  const left = path.w.findLastIndex((value, i) => within(value, w) && within(path.b[i], b)) + 1;
  panel.marks([settings.w], [settings.b], {color: COLORS.ink, shape: "square", size: 4.5, label: "start"});
  panel.marks([loss.w], [loss.b], {color: COLORS.truth, shape: "star", size: 8, label: "least squares"});
  if (left > last) panel.marks([path.w[last]], [path.b[last]], {color: COLORS.path, size: 5, label: "end"});
  else {
    const edge = [[path.w[left], w], [path.b[left], b]].map(([value, [low, high]]) => Math.max(low, Math.min(high, value)));
    panel.marks([edge[0]], [edge[1]], {color: COLORS.alarm, shape: "cross", size: 6, label: "leaves the picture"});
  }
  panel.legend("right");
}

const within = (value, [low, high]) => value >= low && value <= high;

function drawCurve(path, {losses, floor}) {
  const panel = panels.curve, perEpoch = batchesOf(count, settings).reduce((sum, [each, size]) => sum + each * size, 0);
  const settled = floor > 0 && floor < Infinity ? loss.least + floor : NaN;
  panel.begin([0, settings.epochs], lossRange(path.loss, [loss.least, settled]), {logY: true});
  panel.across(loss.least, {color: COLORS.truth, width: 1.4, dash: [9, 3, 2, 3], label: `least squares ${short(loss.least)}`});
  if (Number.isFinite(settled)) {
    panel.across(settled, {color: COLORS.ink, width: 1.2, dash: [7, 4], label: `floor ${short(settled)}`});
  }
  panel.line(path.samples.map(samples => samples / perEpoch), path.loss, {width: 1.6, label: "this run"});
  panel.line(losses.map((_, epoch) => epoch), losses, {color: COLORS.ink, width: 1.8, dash: [2, 4], label: "theory"});
  if (path.diverged) {
    const at = path.samples[path.samples.length - 1] / perEpoch;
    panel.marks([at], [panel.y[1]], {color: COLORS.alarm, shape: "cross", size: 6, label: "diverged"});
  }
  panel.legend("right");
}

function drawFit(path) {
  const panel = panels.fit, x = reach(problem.x), last = path.w.length - 1;
  panel.begin(x, reach(problem.y, 0.25));
  panel.marks(problem.x, problem.y, {size: count > 300 ? 1.5 : 2.5, label: "data"});
  const line = (w, b, style) => panel.line(x, x.map(value => w * value + b), style);
  line(settings.w, settings.b, {color: COLORS.ink, width: 1.2, dash: [2, 4], label: "start"});
  if (problem.truth) line(...problem.truth, {color: COLORS.alarm, width: 1.4, dash: [7, 3], label: "truth"});
  line(loss.w, loss.b, {color: COLORS.truth, width: 1.4, dash: [9, 3, 2, 3], label: "least squares"});
  line(path.w[last], path.b[last], {width: 2.4, label: path.diverged ? "end, diverged" : "end"});
  panel.legend(loss.w < 0 ? "right" : "left");
}

function drawMap() {
  const panel = panels.map;
  const limits = sizes.map(batchSize => theory.limit({...settings, batchSize}, 24));
  const low = Math.min(...limits) / 20, high = Math.max(lrMost, ...limits) * 1.2;
  panel.begin([0.85, Math.max(2, count * 1.2)], [low, high], {logX: true, logY: true});
  panel.inside(c => {
    c.fillStyle = "rgba(181, 70, 15, 0.10)";
    c.beginPath();
    c.moveTo(panel.toX(0.85), panel.toY(high));
    [[0.85, limits[0]], ...sizes.map((size, i) => [size, limits[i]]), [count * 1.2, limits[limits.length - 1]]]
      .forEach(([size, limit]) => c.lineTo(panel.toX(size), panel.toY(limit)));
    c.lineTo(panel.toX(count * 1.2), panel.toY(high));
    c.fill();
    c.fillStyle = COLORS.alarm;
    c.textAlign = "left";
    c.fillText("diverges", panel.toX(0.85) + 8, EDGE.top + 16);
    c.fillStyle = COLORS.truth;
    c.fillText("stable", panel.toX(0.85) + 8, panel.height - EDGE.bottom - 10);
  });
  panel.line(sizes, limits, {color: COLORS.ink, width: 1.8, label: "largest stable learning rate"});
  const lr = Math.max(low, Math.min(high, settings.lr));
  panel.marks([settings.batchSize], [lr], {color: COLORS.path, size: 6, label: "yours"});
  panel.legend("bottom right");
}

window.explored = {problem, loss, theory, descend: changed => descend(problem, loss, {...settings, ...changed})};
setUp();
show();
