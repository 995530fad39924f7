"use strict";

// Courses: what one policy had kept of one sample, over time, by layer and head.
const whole = (number) => number.toLocaleString("en");
const percent = (part) => `${Math.round(100 * part)} %`;

// Packed: for each layer, head and token the update that dropped it (u2); for each token its index (i4), row
// and column (i2, -1 for none), kind (u1).
async function unpack(history) {
  if (history.forgotten) return;
  const bytes = Uint8Array.from(atob(history.packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const buffer = await new Response(stream).arrayBuffer();
  const count = history.layers.length * history.heads * history.tokens;
  const data = new DataView(buffer);
  history.index = Array.from({ length: history.tokens }, (_, t) => data.getInt32(2 * count + 4 * t, true));
  const places = (from) =>
    Int16Array.from({ length: history.tokens }, (_, t) => data.getInt16(from + 2 * t, true));
  history.row = places(2 * count + 4 * history.tokens);
  history.column = places(2 * count + 6 * history.tokens);
  history.kind = new Uint8Array(buffer, 2 * count + 8 * history.tokens);
  history.forgotten = Uint16Array.from({ length: count }, (_, at) => data.getUint16(2 * at, true));
}

// Part of the chosen layers and heads that hold each token; null for what was not seen yet.
function keptNow(history, update, layer, head) {
  const { heads, tokens } = history;
  const layers = layer < 0 ? history.layers.map((_, place) => place) : [layer];
  const chosen = head < 0 ? [...Array(heads).keys()] : [head];
  const kept = new Array(tokens).fill(0);
  for (const l of layers) for (const h of chosen) {
    const start = (l * heads + h) * tokens;
    for (let t = 0; t < tokens; t++) kept[t] += update < 0 || history.forgotten[start + t] > update;
  }
  const last = history.seen.length - 1;
  const seen = update >= 0 && update < last ? history.seen[update] : tokens;
  return kept.map((count, t) => (t < seen ? count / (layers.length * chosen.length) : null));
}

const mean = (values) => {
  const known = values.filter((value) => value !== null);
  return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
};

// Values of one kind of token, in groups of equal index.
function grouped(history, kind, kept) {
  const groups = new Map();
  const wanted = history.kinds.indexOf(kind);
  for (let t = 0; t < history.tokens; t++) {
    if (history.kind[t] !== wanted) continue;
    if (!groups.has(history.index[t])) groups.set(history.index[t], []);
    groups.get(history.index[t]).push(kept[t]);
  }
  return [...groups.values()];
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// Shade one patch: forgotten is dark, not seen yet is hatched.
function shade(pen, value, x, y, across, down) {
  if (value !== null) {
    pen.fillStyle = `rgba(8,10,14,${0.88 * (1 - value)})`;
    pen.fillRect(x, y, across, down);
    return;
  }
  pen.fillStyle = "rgba(128,134,142,.8)";
  pen.fillRect(x, y, across, down);
  pen.strokeStyle = "rgba(255,255,255,.35)";
  pen.lineWidth = 3;
  pen.beginPath();
  pen.moveTo(x, y + down);
  pen.lineTo(x + across, y);
  pen.stroke();
}

// Pictures: the patches of the whole and, where there are some, those of its enlarged parts.
async function drawPictures(stage, view, history, kept) {
  const count = Math.max(...history.index.filter((_, t) => history.row[t] >= 0)) + 1;
  const picture = new Image();
  if (view.frames) {
    picture.src = view.frames;
    await picture.decode();
  }
  const width = picture.naturalWidth / count || 64;
  const height = picture.naturalHeight || 64;
  const box = element("div", undefined, "frames");
  box.setAttribute("role", "img");
  const said = [];
  for (let at = 0; at < count; at++) for (const kind of ["image", "tile"]) {
    const wanted = history.kinds.indexOf(kind);
    const mine = [...kept.keys()].filter((t) =>
      history.kind[t] === wanted && history.index[t] === at && history.row[t] >= 0);
    if (!mine.length) continue;
    const rows = Math.max(...mine.map((t) => history.row[t])) + 1;
    const columns = Math.max(...mine.map((t) => history.column[t])) + 1;
    const [tile, canvas] = [element("div", undefined, "tile"), element("canvas")];
    [canvas.width, canvas.height] = [4 * Math.round(width), 4 * Math.round(height)];
    const pen = canvas.getContext("2d");
    if (view.frames) pen.drawImage(picture, at * width, 0, width, height, 0, 0, canvas.width, canvas.height);
    else { pen.fillStyle = "#d5d9de"; pen.fillRect(0, 0, canvas.width, canvas.height); }
    const [across, down] = [canvas.width / columns, canvas.height / rows];
    for (const t of mine) shade(pen, kept[t], history.column[t] * across, history.row[t] * down, across, down);
    const part = mean(mine.map((t) => kept[t]));
    const words = `${at}${kind === "tile" ? ", enlarged" : ""}: ${part === null ? "not yet" : percent(part)}`;
    said.push(`picture ${words}`);
    tile.append(canvas, element("small", words));
    box.append(tile);
  }
  box.setAttribute("aria-label", said.join(", "));
  stage.replaceChildren(box);
}

// Frames, each with a shade over every patch: forgotten is dark, not seen yet is hatched.
// Of a sound the seconds, each with a shade over every token from left to right.
async function drawFrames(stage, view, history, kept) {
  const heard = view.form === "sound";
  const shown = history.kinds.filter((kind) => (heard ? kind.startsWith("sound") : kind === "frame"));
  const groups = shown.flatMap((kind) => grouped(history, kind, kept));
  const labels = shown.flatMap((kind) => grouped(history, kind, kept).map((_, at) =>
    heard && shown.length > 1 ? `${kind}, ${at} s` : heard ? `${at} s` : `${at}`));
  const most = Math.max(...groups.map((tokens) => tokens.length));
  const picture = new Image();
  if (view.frames) {
    picture.src = view.frames;
    await picture.decode();
  }
  const width = picture.naturalWidth / groups.length || 64;
  const height = picture.naturalHeight || 64;
  const tiles = groups.map((patches, at) => {
    const [tile, canvas] = [element("div", undefined, "tile"), element("canvas")];
    [canvas.width, canvas.height] = [4 * Math.round(width), 4 * Math.round(height)];
    const pen = canvas.getContext("2d");
    pen.imageSmoothingEnabled = false;
    if (view.frames) pen.drawImage(picture, at * width, 0, width, height, 0, 0, canvas.width, canvas.height);
    else { pen.fillStyle = "#d5d9de"; pen.fillRect(0, 0, canvas.width, canvas.height); }
    const part = mean(patches);
    const side = Math.round(Math.sqrt(patches.length));
    const cells = heard || side * side === patches.length ? patches : [part];
    const columns = heard ? most : Math.sqrt(cells.length);
    const [across, down] = [canvas.width / columns, canvas.height / (heard ? 1 : columns)];
    cells.forEach((value, cell) => {
      shade(pen, value, (cell % columns) * across, Math.floor(cell / columns) * down, across, down);
    });
    tile.append(canvas, element("small", `${labels[at]}: ${part === null ? "not yet" : percent(part)}`));
    return tile;
  });
  const box = element("div", undefined, "frames");
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", groups.map((patches, at) => {
    const part = mean(patches);
    return `${heard ? "second" : "frame"} ${labels[at]} ${part === null ? "not seen yet" : `${percent(part)} kept`}`;
  }).join(", "));
  box.append(...tiles);
  stage.replaceChildren(box);
}

// The passage: runs of equally kept tokens; what nobody keeps is struck through.
function drawText(stage, view, kept) {
  const levels = kept.map((part) => (part === null ? "later" : Math.ceil(4 * part)));
  const box = element("div", undefined, "passage");
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", "The passage, forgotten words struck through");
  let start = 0;
  for (let t = 1; t <= levels.length; t++) {
    if (t < levels.length && levels[t] === levels[start]) continue;
    const run = element(levels[start] === 0 ? "s" : "span", view.pieces.slice(start, t).join(""));
    run.dataset.kept = levels[start];
    box.append(run);
    start = t;
  }
  stage.replaceChildren(box);
}

const figureIsWide = (box) => box.clientWidth > 600; // a phone has no room for the scale of colours

// An episode: a row for each kind of token along the timesteps, and the return so far.
async function drawSteps(stage, history, kept) {
  const rows = history.kinds.filter((kind) => grouped(history, kind, kept).length > 1);
  const values = rows.map((kind) => grouped(history, kind, kept).map(mean));
  let box = stage.querySelector(".steps");
  if (!box) {
    box = element("div", undefined, "steps");
    box.setAttribute("role", "img");
    stage.replaceChildren(box);
  }
  const now = Math.max(0, values[0].findLastIndex((value) => value !== null));
  const said = rows.map((kind, row) => `${percent(mean(values[row]) ?? 0)} of the ${kind}s`).join(", ");
  const far = history.returns.length ? history.returns[Math.min(now, history.returns.length - 1)] : null;
  box.setAttribute("aria-label", `At step ${now}: kept ${said}${far === null ? "" : `; return so far ${far}`}`);
  const data = [{
    type: "heatmap", z: values, y: rows, zmin: 0, zmax: 1, colorscale: "Cividis", ygap: 3,
    showscale: figureIsWide(stage),
    colorbar: { title: { text: "kept" }, thickness: 12, tickformat: ".0%", len: 0.5, y: 0.2 },
    hovertemplate: "step %{x}<br>%{y}<br>kept %{z:.0%}<extra></extra>",
  }];
  const layout = {
    margin: { l: 60, r: 16, t: 8, b: 40 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("--text") },
    xaxis: { title: { text: "step" }, automargin: true, zeroline: false, gridcolor: colour("--line") },
    yaxis: { automargin: true, autorange: "reversed", domain: [0, history.returns.length ? 0.42 : 1] },
    showlegend: false,
    shapes: [{
      type: "line", x0: now, x1: now, y0: 0, y1: 1, yref: "paper",
      line: { color: colour("--soft"), width: 1, dash: "dot" },
    }],
  };
  if (history.returns.length) {
    data.push({
      type: "scatter", mode: "lines", y: history.returns, yaxis: "y2", line: { color: colour("--accent"), width: 2 },
      hovertemplate: "step %{x}<br>return so far %{y}<extra></extra>",
    });
    layout.yaxis2 = {
      domain: [0.52, 1], title: { text: "return so far" }, automargin: true, zeroline: false,
      gridcolor: colour("--line"),
    };
  }
  await Plotly.react(box, data, layout, { responsive: true, displayModeBar: false });
}

async function showHistory(figure) {
  const views = (figure.views ??= JSON.parse(figure.querySelector("script").textContent));
  const control = (what) => figure.querySelector(`[data-what=${what}]`);
  const view = views[control("sample").value];
  const policy = control("policy");
  const wanted = policy.value || "namm";
  if (figure.view !== view) {
    figure.view = view;
    policy.replaceChildren(...view.histories.map((history) => element("option", history.policy)));
    const place = view.histories.findIndex((history) => history.policy === wanted);
    const namm = view.histories.findIndex((history) => history.policy.startsWith("namm"));
    policy.selectedIndex = Math.max(place >= 0 ? place : namm, 0);
  }
  const history = view.histories[policy.selectedIndex];
  const last = history.seen.length - 1;
  const update = control("update");
  if (figure.history !== history) {
    const [before, atEnd] = [+update.value, update.value === update.max];
    figure.history = history;
    update.max = Math.max(last, 0);
    update.value = atEnd ? update.max : Math.min(before, last);
    update.disabled = last < 1;
    control("layer").max = history.layers.length;
    control("head").max = history.heads;
  }
  const [layer, head] = [control("layer").value - 1, control("head").value - 1];
  const say = (what, text) => {
    control(what).setAttribute("aria-valuetext", text);
    figure.querySelector(`output[for$="-${what}"]`).textContent = text;
  };
  const seen = last < 0 ? history.tokens : +update.value === last ? history.tokens : history.seen[update.value];
  const time = last < 0 ? "never evicts" :
    `update ${+update.value + 1} of ${last + 1}, ${+update.value === last ? "and the end" : `${whole(seen)} tokens seen`}`;
  say("update", time);
  say("layer", layer < 0 ? "all, mean" : `${history.layers[layer]}`);
  say("head", head < 0 ? "all, mean" : `${head}`);
  const turn = (figure.turn = (figure.turn ?? 0) + 1);
  await unpack(history);
  if (turn !== figure.turn) return; // the reader went on meanwhile
  const kept = keptNow(history, last < 0 ? -1 : +update.value, layer, head);
  const terms = [...view.about, ["answer", history.answer]].flatMap(([name, value]) =>
    [element("dt", name), element("dd", value)]);
  figure.querySelector("dl").replaceChildren(...terms);
  figure.querySelector(".now").textContent = `${history.policy}: ${percent(mean(kept) ?? 0)} of ${whole(seen)} ` +
    `tokens kept${layer < 0 ? "" : ` in layer ${history.layers[layer]}`}${head < 0 ? "" : `, head ${head}`}`;
  const stage = figure.querySelector(".stage");
  if (view.form === "frames" || view.form === "sound") await drawFrames(stage, view, history, kept);
  else if (view.form === "pictures") await drawPictures(stage, view, history, kept);
  else if (view.form === "text") drawText(stage, view, kept);
  else await drawSteps(stage, history, kept);
}

const lookers = [...document.querySelectorAll(".histories")];
const lookerWatcher = new IntersectionObserver(
  (entries) => entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => {
    lookerWatcher.unobserve(target);
    showHistory(target);
  }),
  { rootMargin: "600px" },
);
for (const figure of lookers) {
  lookerWatcher.observe(figure);
  figure.querySelector(".controls").addEventListener("input", () => showHistory(figure));
}
window.addEventListener("beforeprint", () => lookers.forEach(showHistory));
