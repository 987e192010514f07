"use strict";
// The list of runs: typed words choose rows, a click on a column's name sorts by it, and two selected runs can be compared.
(() => {
  const table = document.querySelector("table.runs"), body = table.tBodies[0], rows = [...body.rows];
  const filter = document.getElementById("filter"), shown = document.getElementById("shown"), compare = document.getElementById("compare");
  const choose = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    const count = rows.filter((row) => !row.hidden).length;
    shown.textContent = words.length ? `${count} of ${rows.length}` : "";
  };
  const select = () => { compare.disabled = rows.filter((row) => row.querySelector("input").checked).length < 2; };
  // Numbers by value, largest first; texts by letter. A row without a value comes last in both orders.
  const value = (cell, isNumber) => isNumber ? cell.dataset.by : cell.textContent === "-" ? null : cell.textContent;
  const sort = (head, column) => {
    const isNumber = rows.some((row) => row.cells[column].dataset.by != null);
    const was = head.getAttribute("aria-sort"), down = was ? was === "ascending" : isNumber;
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const order = (a, b) => (isNumber ? a - b : a.localeCompare(b)) * (down ? -1 : 1);
    const sorted = rows.map((row) => [row, value(row.cells[column], isNumber)]).sort(([, a], [, b]) => (a == null) - (b == null) || (a == null ? 0 : order(a, b)));
    body.append(...sorted.map(([row]) => row));
  };
  [...table.tHead.rows[0].cells].forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => sort(head, column)));
  filter.addEventListener("input", choose);
  filter.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); }); // not a comparison
  body.addEventListener("change", select);
  addEventListener("pageshow", () => { choose(); select(); }); // a page come back to keeps its boxes
})();
