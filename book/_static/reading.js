/* What a page does for its reader: tables on a narrow screen, formulas by keyboard, and the words of a search. */
(() => {
  /* A formula or a figure that is wider than the screen scrolls; so that a keyboard can scroll it, the Tab key has to
     reach it. */
  const reach = () =>
    document.querySelectorAll("mjx-container[display], .drawn-box").forEach((box) => {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    });

  /* A table that would have one word a line, or not fit at all, shows each row as a block of "heading: value". */
  const ENOUGH = 136; // pixels that a column of words may be squeezed to

  /* What stands in each column: pandas writes the name of the index into a row of its own, under the others. */
  function headings(head) {
    const rows = [...head.rows];
    const names = [...rows[0].cells].map((cell) => cell.textContent.trim());
    const flat = rows.every((row) => row.cells.length === names.length && [...row.cells].every((c) => c.colSpan === 1));
    const rest = rows.slice(1).flatMap((row) => [...row.cells].map((cell, i) => [i, cell.textContent.trim()]));
    if (!flat || rest.some(([i, name]) => name && names[i])) return null;
    rest.forEach(([i, name]) => { names[i] ||= name; });
    return names;
  }

  /* A cell that spans rows stands in each of them when each row is a block. */
  function unspan(rows) {
    rows.forEach((row, r) => [...row.cells].filter((cell) => cell.rowSpan > 1).forEach((cell) => {
      for (let below = r + 1; below < r + cell.rowSpan; below++) {
        const again = cell.cloneNode(true);
        again.removeAttribute("rowspan");
        again.classList.add("again");
        rows[below].insertBefore(again, rows[below].cells[cell.cellIndex] ?? null);
      }
    }));
  }

  function label(table) {
    const rows = [...table.tBodies].flatMap((body) => [...body.rows]);
    const names = table.tHead && headings(table.tHead);
    if (!names || rows.some((row) => [...row.cells].some((cell) => cell.colSpan > 1))) return false;
    unspan(rows);
    const firsts = rows.map((row) => row.cells[0]?.textContent.trim());
    const counted = !names[0] && firsts.every((text, i) => text === String(i)); // rows are numbered, no more
    rows.forEach((row) => [...row.cells].forEach((cell, i) => {
      cell.dataset.label = names[i] ?? "";
      if (i === 0 && counted) cell.classList.add("counted");
    }));
    const role = (nodes, name) => [...nodes].forEach((node) => node.setAttribute("role", name));
    role([table], "table"); // a block is no table to a screen reader, unless it is told
    role([table.tHead, ...table.tBodies], "rowgroup");
    role([...table.tHead.rows, ...rows], "row");
    role(table.querySelectorAll("td"), "cell");
    role(table.querySelectorAll("thead th"), "columnheader");
    role(table.querySelectorAll("tbody th"), "rowheader");
    return true;
  }

  function wanted(table) {
    table.classList.add("measured");
    const width = [...table.tHead.rows[0].cells].reduce((sum, cell) => sum + Math.min(cell.offsetWidth, ENOUGH), 0);
    table.classList.remove("measured");
    return width;
  }

  function fit(table) {
    if (!table.offsetParent) return; // it is folded; it will be asked again
    table.classList.remove("in-rows");
    const room = table.parentElement.clientWidth;
    if (wanted(table) > room || table.offsetWidth > room + 1) table.classList.add("in-rows");
  }

  /* The words that a search was for: they come with the link that was clicked, and go with the Escape key. */
  function mark() {
    const words = (new URLSearchParams(location.search).get("highlight") ?? "").split(" ").filter(Boolean);
    if (!words.length) return;
    const safe = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    const found = new RegExp(`(${safe.map((w) => (/^\w/.test(w) ? `\\b${w}\\w*` : w)).join("|")})`, "gi");
    const walker = document.createTreeWalker(document.querySelector("article"), NodeFilter.SHOW_TEXT, (node) =>
      node.parentElement.closest("script, style, svg, mjx-container, .math, mark, .attncore-explorer, .widget")
        ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT);
    const texts = [];
    while (walker.nextNode()) if (walker.currentNode.data.search(found) >= 0) texts.push(walker.currentNode);
    texts.forEach((text) => {
      const parts = text.data.split(found).map((part, i) => {
        if (i % 2 === 0) return part;
        const word = document.createElement("mark");
        word.className = "searched";
        word.textContent = part;
        return word;
      });
      text.replaceWith(...parts);
    });
    if (!location.hash) document.querySelector("mark.searched")?.scrollIntoView({ block: "center" });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") document.querySelectorAll("mark.searched").forEach((m) => m.replaceWith(m.textContent));
    });
  }

  window.addEventListener("load", () => {
    mark();
    const tables = [...document.querySelectorAll("article table")].filter(label);
    const all = () => { reach(); tables.forEach(fit); };
    const watcher = new ResizeObserver((changes) => changes.forEach((change) => fit(change.target.querySelector("table"))));
    tables.forEach(fit);
    new Set(tables.map((table) => table.parentElement)).forEach((box) => watcher.observe(box));
    window.MathJax?.startup?.promise?.then(all);
    reach();
    window.addEventListener("resize", reach);
  });
})();
