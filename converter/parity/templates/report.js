"use strict";

// The charts, whose specifications are data in the page. `ast` interprets their expressions instead of compiling them,
// which the page's policy does not allow.
for (const data of document.querySelectorAll("script[data-chart]"))
  vegaEmbed(`#${data.dataset.chart}`, JSON.parse(data.textContent), {
    mode: "vega-lite", renderer: "svg", actions: false, ast: true,
  }).catch(console.error);

// Sorting: a click on the head of a column, and a second one for the other direction.
function sort(button) {
  const head = button.closest("th");
  const table = head.closest("table");
  const column = head.cellIndex;
  const direction = head.ariaSort === "ascending" ? -1 : 1;
  const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const compare = head.classList.contains("text")
    ? (a, b) => a.localeCompare(b, "en", { numeric: true })
    : (a, b) => Number(a) - Number(b);
  const rows = [...table.tBodies[0].rows].sort((a, b) => direction * compare(value(a), value(b)));
  for (const other of table.tHead.querySelectorAll("th")) other.ariaSort = null;
  head.ariaSort = direction === 1 ? "ascending" : "descending";
  table.tBodies[0].append(...rows);
}
for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => sort(button));

// A link to a row opens the folded section that contains it.
function unfold() {
  const target = document.getElementById(location.hash.slice(1));
  const details = target?.closest("details");
  if (details && !details.open) {
    details.open = true;
    target.scrollIntoView({ block: "center" });
  }
}
addEventListener("hashchange", unfold);
unfold();

const zoom = document.getElementById("zoom");
const diagram = document.querySelector(".diagram");
zoom?.addEventListener("input", () => diagram.style.setProperty("--zoom", zoom.value));

// The culprit is in view when the diagram is longer than its frame.
const culprit = diagram?.querySelector(".culprit");
if (culprit) {
  const frame = diagram.getBoundingClientRect();
  const box = culprit.getBoundingClientRect();
  diagram.scrollTop += box.top - frame.top - frame.height / 2;
}
