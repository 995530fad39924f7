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
  layout.font = { family: getComputedStyle(document.body).fontFamily, size: 13 };
  const settings = { responsive: true, displaylogo: false, displayModeBar: false };
  Plotly.newPlot(box, data, layout, settings).then(() => Plotly.relayout(box, themed(layout)));
}

const boxes = [...document.querySelectorAll(".plot")];
const watcher = new IntersectionObserver(
  (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => draw(entry.target)),
  { rootMargin: "600px" },
);
boxes.forEach((box) => watcher.observe(box));
window.addEventListener("beforeprint", () => boxes.forEach(draw));

// Theme: the system's, until the reader chooses.
function repaint() {
  for (const box of boxes) if (box.layout) Plotly.relayout(box, themed(box.layout));
}
const dark = window.matchMedia("(prefers-color-scheme: dark)");
dark.addEventListener("change", repaint);
document.getElementById("theme").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
  repaint();
});
