"use strict";
// Without this the page is whole: only filter and order of the table are made here.
const filter = document.getElementById("filter");
const table = document.getElementById("clients");
if (filter && table) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => ({
    row,
    block: document.getElementById("c" + row.dataset.number),
    text: row.textContent.toLowerCase(),
  }));
  const search = document.getElementById("search");
  const verdict = document.getElementById("verdict");
  const acting = document.getElementById("acting");
  const shown = document.getElementById("shown");
  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const { row, block, text } of rows) {
      const fits =
        words.every((word) => text.includes(word)) &&
        (!verdict.value || row.dataset.verdict === verdict.value) &&
        (!acting.checked || row.dataset.acting === "true");
      row.hidden = !fits;
      if (block) block.hidden = !fits;
      count += fits;
    }
    shown.textContent = count + " of " + rows.length + " shown";
  };
  for (const input of [search, verdict, acting]) input.addEventListener("input", apply);
  filter.hidden = false;
  apply();

  for (const heading of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const ascending = heading.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const column = heading.cellIndex;
      const isNumber = heading.dataset.sort === "number";
      const key = ({ row }) => {
        const cell = row.cells[column];
        const value = cell.dataset.value ?? cell.textContent.trim();
        return isNumber ? Number(value) : value;
      };
      const keyed = rows.map((entry) => [key(entry), entry.row]);
      const compare = isNumber ? (a, b) => a - b : (a, b) => a.localeCompare(b);
      keyed.sort((a, b) => (ascending ? compare(a[0], b[0]) : compare(b[0], a[0])));
      body.append(...keyed.map((pair) => pair[1]));
    });
  }
}
// A link into the page opens what it leads to; paper cannot be opened later.
const openTarget = () => {
  const target = document.getElementById(location.hash.slice(1));
  if (target && target.tagName === "DETAILS") target.open = true;
};
addEventListener("hashchange", openTarget);
openTarget();
addEventListener("beforeprint", () => {
  for (const block of document.querySelectorAll("details")) block.open = true;
});
