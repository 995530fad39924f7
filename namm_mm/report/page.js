"use strict";

// Sorting: a heading's button sorts by its column, again to turn round; empty keys stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const ascending = heading.getAttribute("aria-sort") !== "ascending";
      const numeric = heading.classList.contains("number");
      const key = (row) => row.cells[column].dataset.key;
      const rows = [...table.tBodies[0].rows].sort((one, other) => {
        const [a, b] = [key(one), key(other)];
        if (a === "" || b === "") return (a === "") - (b === "");
        const order = numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true });
        return ascending ? order : -order;
      });
      table.tBodies[0].append(...rows);
      for (const other of headings) other.setAttribute("aria-sort", "none");
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    });
  });
}

// Tables that are wider than the page say that they can be scrolled.
function hint() {
  for (const box of document.querySelectorAll(".table .scroll")) {
    box.nextElementSibling.hidden = box.scrollWidth <= box.clientWidth + 1;
  }
}
hint();
window.addEventListener("resize", hint);
for (const details of document.querySelectorAll("details")) details.addEventListener("toggle", hint);

// Figures: drawn when they come near, in the colours of the theme.
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function themed(layout) {
  const changes = { "font.color": colour("--text"), "hoverlabel.bgcolor": colour("--raised") };
  for (const name of Object.keys(layout)) {
    if (/^[xy]axis\d*$/.test(name)) {
      changes[`${name}.gridcolor`] = colour("--line");
      changes[`${name}.linecolor`] = colour("--line");
    }
  }
  return changes;
}

function draw(box) {
  if (box.dataset.drawn) return;
  box.dataset.drawn = "yes";
  const source = box.querySelector("script");
  const { data, layout } = JSON.parse(source.textContent);
  source.remove();
  if (box.clientWidth < 500) { // a narrow legend has one entry in a line
    const entries = data.filter((trace) => trace.name && trace.showlegend !== false).length;
    box.style.height = `${parseInt(box.style.height) + 18 * entries}px`;
  }
  layout.font = { family: getComputedStyle(document.body).fontFamily, size: 13 };
  const settings = { responsive: true, displaylogo: false, displayModeBar: false };
  Plotly.newPlot(box, data, layout, settings).then(() => Plotly.relayout(box, themed(layout)));
}

// Samples: a slider steps through them; each redraws the strip and what was asked and answered.
const scale = "Cividis";

// Frames, for each policy a row of them: what is forgotten is dark.
async function tile(figure, view) {
  const box = figure.querySelector(".tiles");
  figure.classList.toggle("pictured", Boolean(view.frames));
  if (!view.frames) return box.replaceChildren();
  const picture = new Image();
  picture.src = view.frames;
  await picture.decode();
  box.replaceChildren(...view.rows.flatMap((row, i) => {
    const [label, frames] = [document.createElement("span"), document.createElement("div")];
    label.textContent = row;
    frames.append(...view.values[i].map((kept, k, all) => {
      const frame = document.createElement("i");
      frame.title = `frame ${k}: ${Math.round(100 * kept)} % kept`;
      frame.style.aspectRatio = `${picture.naturalWidth / all.length} / ${picture.naturalHeight}`;
      frame.style.backgroundImage = `url(${view.frames})`;
      frame.style.backgroundSize = `${100 * all.length}% 100%`;
      frame.style.backgroundPosition = `${all.length > 1 ? (100 * k) / (all.length - 1) : 0}% 0`;
      frame.style.filter = `brightness(${0.1 + 0.9 * kept})`;
      return frame;
    }));
    return [label, frames];
  }));
}

const viewsOf = (figure) => (figure.views ??= JSON.parse(figure.querySelector("script").textContent));

function show(figure) {
  const views = viewsOf(figure);
  figure.shown = true;
  const slider = figure.querySelector("input");
  const view = views[slider.value];
  figure.querySelector("output").textContent = `${view.name} (${+slider.value + 1} of ${views.length})`;
  slider.setAttribute("aria-valuetext", view.name);
  const terms = view.about.flatMap(([name, value]) => {
    const [term, text] = [document.createElement("dt"), document.createElement("dd")];
    [term.textContent, text.textContent] = [name, value];
    return [term, text];
  });
  figure.querySelector("dl").replaceChildren(...terms);
  tile(figure, view);
  const box = figure.querySelector(".strip");
  box.setAttribute("aria-label", view.rows.map((row, i) =>
    `${row}: ${view.values[i].map((value) => `${Math.round(100 * value)} %`).join(", ")}`).join("; "));
  const data = [{
    type: "heatmap", z: view.values, y: view.rows, zmin: 0, zmax: 1, colorscale: scale, ygap: 3,
    xgap: view.values[0]?.length <= 40 ? 1 : 0,
    colorbar: { title: { text: "kept" }, thickness: 12, tickformat: ".0%" },
    hovertemplate: "%{x}<br>%{y}<br>kept %{z:.1%}<extra></extra>",
  }];
  const layout = {
    margin: { l: 60, r: 16, t: 8, b: 40 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    xaxis: { automargin: true, zeroline: false, gridcolor: colour("--line") },
    yaxis: { automargin: true, autorange: "reversed", gridcolor: colour("--line") },
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("--text") },
  };
  Plotly.react(box, data, layout, { responsive: true, displayModeBar: false });
}

const galleries = [...document.querySelectorAll(".samples")];
const galleryWatcher = new IntersectionObserver(
  (entries) => entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => {
    galleryWatcher.unobserve(target);
    show(target);
  }),
  { rootMargin: "600px" },
);
for (const figure of galleries) {
  galleryWatcher.observe(figure);
  tile(figure, viewsOf(figure)[0]); // frames take time to decode, which printing does not give
  figure.querySelector("input").addEventListener("input", () => show(figure));
}

const boxes = [...document.querySelectorAll(".plot")];
const watcher = new IntersectionObserver(
  (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => draw(entry.target)),
  { rootMargin: "600px" },
);
boxes.forEach((box) => watcher.observe(box));

// Paper is light, whatever the screen is, and as wide as A4 or Letter without margins.
const PAPER = { wide: 690, half: 335, part: 0.65 };
let onScreen;
function resize(box, size) {
  if (box.layout) Plotly.relayout(box, size);
}
window.addEventListener("beforeprint", () => {
  onScreen = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = "light";
  boxes.forEach(draw);
  galleries.forEach(show);
  repaint();
  for (const box of document.querySelectorAll(".plot, .strip")) {
    const width = box.closest(".chart:not(.wide)") ? PAPER.half : PAPER.wide;
    const height = Math.round(PAPER.part * parseInt(box.style.height));
    box.dataset.height = box.style.height;
    box.style.height = `${height}px`;
    resize(box, { width, height, "font.size": 9 });
  }
});
window.addEventListener("afterprint", () => {
  if (onScreen) document.documentElement.dataset.theme = onScreen;
  else delete document.documentElement.dataset.theme;
  for (const box of document.querySelectorAll(".plot, .strip")) {
    box.style.height = box.dataset.height;
    resize(box, { width: null, height: null, autosize: true, "font.size": 13 });
  }
  repaint();
});

// Theme: the system's, until the reader chooses.
function repaint() {
  for (const box of boxes) if (box.layout) Plotly.relayout(box, themed(box.layout));
  for (const figure of galleries) if (figure.shown) show(figure);
  for (const figure of document.querySelectorAll(".histories")) if (figure.views) showHistory(figure);
}
const dark = window.matchMedia("(prefers-color-scheme: dark)");
dark.addEventListener("change", repaint);
document.getElementById("theme").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
  repaint();
});
