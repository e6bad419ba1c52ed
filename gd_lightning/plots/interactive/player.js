"use strict";
/* The page of an animation: paths over the loss surface, fits over the data and loss curves, frame by frame. */

const content = JSON.parse(document.getElementById("content").textContent);
const {tracks, line, several, frames, ranges} = content;
const input = id => document.getElementById(id);
const SECONDS = 12; // of all frames, at speed 1
let frame = 0, isPlaying = false, timer = 0;

const style = i => ({color: VARIANTS[i % VARIANTS.length], dash: DASHES[i % DASHES.length]});
/* Dashes of a dense curve cannot be told apart. */
const curveStyle = (track, i) => track.losses.length > 300 ? {color: style(i).color, width: 0.9} : {...style(i), width: 1.5};
const shape = i => SHAPES[i % SHAPES.length];

function panelIn(id, title, x, y, says) {
  const holder = document.createElement("div"), canvas = document.createElement("canvas");
  holder.className = "frame";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", says);
  holder.append(canvas);
  input(id).append(holder);
  return new Panel(canvas, title, x, y);
}

/* A panel of each run. */
function ownPanels(title, x, y, says) {
  const isAlone = tracks.length === 1;
  return tracks.map(track => panelIn(isAlone ? "others" : "own", isAlone ? title : track.label, x, y, says(track.label)));
}
const surfaces = ranges.w === null ? [] :
  ownPanels("Train loss over w and b, and the path", "w", "b", label => `Path of ${label} over the loss surface`);
const predictions = several === null ? [] :
  ownPanels("Predicted against true", `true: ${several.target}`, "predicted", label => `What ${label} predicts against what is true`);
const fits = line === null ? null : panelIn("others", "Data and fit", line.feature, line.target, "Data and fitted lines");
const curve = panelIn("others", "Train loss", "samples seen", "train loss", "Train loss against samples");
const own = Math.max(surfaces.length, predictions.length);
if (own > 1) {
  input("own").style.gridTemplateColumns = `repeat(${Math.min(4, own)}, 1fr)`;
  input("own").style.flexGrow = Math.ceil(own / 4);
} else input("own").remove();

/* How many of the rows of a track there are until some samples. */
function rowsUntil(track, samples) {
  let low = 0, high = track.samples.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (track.samples[middle] <= samples) low = middle + 1; else high = middle;
  }
  return low;
}

function drawSurface(panel, track, i, samples) {
  const count = Math.max(1, rowsUntil(track, samples)), w = track.w[count - 1], b = track.b[count - 1];
  panel.begin(ranges.w, ranges.b);
  panel.contours(line.loss);
  panel.line(track.w, track.b, {color: style(i).color, width: count > 300 ? 0.8 : 1.5, count});
  panel.marks([track.w[0]], [track.b[0]], {color: COLORS.ink, shape: "square", size: 4, label: "start"});
  panel.marks([line.loss.w], [line.loss.b], {color: COLORS.truth, shape: "star", size: 8, label: "least squares"});
  panel.marks([w], [b], {color: style(i).color, shape: shape(i), size: 6, label: isDone(track, samples) ? "end" : "now"});
  panel.legend("right");
}

function drawPredictions(panel, track, i) {
  panel.begin(ranges.true, ranges.predicted);
  panel.line(ranges.true, ranges.true, {color: COLORS.truth, width: 1.4, dash: [7, 3], label: "exact"});
  panel.marks(several.y, track.predicted[frame], {color: style(i).color, shape: shape(i), size: 2.5});
  panel.legend("left");
}

/* Whether a run that diverged ended before. */
const isDone = (track, samples) => samples >= track.samples[track.samples.length - 1];

function drawFits(samples) {
  fits.begin(ranges.x, ranges.y);
  fits.marks(line.x, line.y, {size: line.x.length > 300 ? 1.5 : 2.5, label: "data"});
  if (line.truth) fits.line(ranges.x, ranges.x.map(x => line.truth[0] * x + line.truth[1]), {color: COLORS.ink, width: 1.2, dash: [2, 4], label: "truth"});
  tracks.forEach((track, i) => {
    if (track.w === null) return;
    const k = Math.max(1, rowsUntil(track, samples)) - 1, ys = ranges.x.map(x => track.w[k] * x + track.b[k]);
    fits.line(ranges.x, ys, {...style(i), width: 2.2, label: track.label});
    fits.marks([ranges.x[0] + 0.06 * (i + 1) * (ranges.x[1] - ranges.x[0])].filter(() => tracks.length > 1),
      [track.w[k] * (ranges.x[0] + 0.06 * (i + 1) * (ranges.x[1] - ranges.x[0])) + track.b[k]],
      {color: style(i).color, shape: shape(i), size: 5});
  });
  fits.legend("right");
}

function drawCurve(samples) {
  curve.begin([0, frames[frames.length - 1]], ranges.loss, {logY: ranges.isLog});
  if (content.leastSquares !== null) {
    curve.across(content.leastSquares, {color: COLORS.truth, width: 1.4, dash: [9, 3, 2, 3], label: "least squares"});
  }
  tracks.forEach((track, i) => {
    let count = 0;
    while (count < track.lossSamples.length && track.lossSamples[count] <= samples) count += 1;
    curve.line(track.lossSamples, track.losses, {...curveStyle(track, i), count, label: track.label});
    if (count) curve.marks([track.lossSamples[count - 1]], [track.losses[count - 1]], {color: style(i).color, shape: shape(i), size: 5});
  });
  curve.legend("right");
}

function show() {
  const samples = frames[frame];
  surfaces.forEach((panel, i) => drawSurface(panel, tracks[i], i, samples));
  predictions.forEach((panel, i) => drawPredictions(panel, tracks[i], i));
  if (fits) drawFits(samples);
  drawCurve(samples);
  input("frame").value = frame;
  const ended = tracks.filter(track => track.diverged && isDone(track, samples)).map(track => track.label);
  const epochs = content.perEpoch ? `, epoch ${(samples / content.perEpoch).toFixed(1)}` : "";
  input("now").textContent = `${samples.toLocaleString("en")}${epochs}${ended.length ? `; ${ended.join(", ")} diverged` : ""}`;
  input("play").textContent = isPlaying ? "Pause" : "Play";
  window.shown = {frame, samples, isPlaying};
}

function goTo(wanted) {
  frame = Math.max(0, Math.min(frames.length - 1, wanted));
  show();
}

function play() {
  if (!isPlaying) return;
  frame += 1;
  isPlaying = frame < frames.length - 1;
  show();
  goOn();
}

function goOn() {
  clearTimeout(timer);
  if (isPlaying) timer = setTimeout(play, 1000 * SECONDS / (frames.length * Number(input("speed").value)));
}

function toggle() {
  isPlaying = !isPlaying;
  if (isPlaying && frame === frames.length - 1) frame = 0;
  show();
  goOn();
}

function step(by) {
  isPlaying = false;
  goTo(frame + by);
}

input("note").textContent = content.note;
input("frame").max = frames.length - 1;
input("frame").addEventListener("input", () => { isPlaying = false; goTo(Number(input("frame").value)); });
input("play").addEventListener("click", toggle);
input("step").addEventListener("click", () => step(1));
input("back").addEventListener("click", () => step(-1));
document.addEventListener("keydown", event => {
  if (event.key === " " && !["BUTTON", "SELECT"].includes(event.target.tagName)) {
    event.preventDefault();
    toggle();
  }
});
new ResizeObserver(() => show()).observe(document.body);
show();
