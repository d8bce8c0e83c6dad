/* A shelf of promotions: choose one, take past purchases away, and the rest is weighed anew. book/shelf.py draws the
   first picture; the chance is what the last layers of the trained ranker make of it, computed here. */
(() => {
  const [ROW, TOP, NOTHING] = [33, 26, "nothing of the past"];
  const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
  const cut = (name, letters) => (name.length > letters ? name.slice(0, letters - 1) + "…" : name);
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const onPage = () => document.querySelector("article.bd-article") !== null;
  const add = (place, tag, values = {}, text = "") => {
    const node = place.appendChild(document.createElement(tag));
    Object.entries(values).forEach(([key, value]) => node.setAttribute(key, value));
    if (text) node.textContent = text;
    return node;
  };
  function unpacked([packed, shape, scale]) {
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    const all = Array.from({ length: bytes.length / 2 }, (_, n) => view.getInt16(2 * n, true) * scale);
    if (shape.length === 1) return all;
    return Array.from({ length: shape[0] }, (_, r) => all.slice(r * shape[1], (r + 1) * shape[1]));
  }
  /* The integral in GELU, to seven digits: Abramowitz and Stegun 1964, 7.1.26. */
  function gelu(x) {
    const z = Math.abs(x) / Math.SQRT2;
    const t = 1 / (1 + 0.3275911 * z);
    const series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return (x / 2) * (1 + Math.sign(x) * (1 - series * Math.exp(-z * z)));
  }
  const since = ({ count, days }) => {
    const ago = { 0: "today", 1: "yesterday" }[days] ?? `${days} days ago`;
    return count === 1 ? `once, ${ago}` : `${count} times, last ${ago}`;
  };

  function start(root, first) {
    const { homes, tables: packed, heads } = JSON.parse(root.querySelector("script[type='application/json']").textContent);
    const net = Object.fromEntries(Object.entries(packed).map(([name, table]) => [name, unpacked(table)]));
    const state = { home: 0, chosen: 0, off: new Set() };
    const known = (location.hash.match(/[#&]shelf=(\d+)\.(\d+)\.([\d-]*)/) ?? []).slice(1);
    if (first && onPage() && known.length && homes[known[0]]?.promotions[known[1]]) {
      Object.assign(state, { home: +known[0], chosen: +known[1] });
      state.off = new Set(known[2].split("-").filter(Boolean).map(Number).filter((i) => i > 0 && i <= homes[state.home].items.length + 1));
    }
    const svg = root.querySelector("svg");
    const side = root.querySelector(".w-side");
    side.hidden = false;
    const bar = add(side, "div", { class: "w-steps", role: "group", "aria-label": "household" });
    add(bar, "span", {}, "household");
    const doors = homes.map((_, n) => {
      const button = add(bar, "button", { type: "button", "aria-label": `household ${n + 1}` }, String(n + 1));
      button.addEventListener("click", () => { Object.assign(state, { home: n, chosen: 0 }); state.off.clear(); draw(); keep(); });
      return button;
    });
    if (homes.length < 2) bar.style.display = "none";
    const list = add(side, "ol", { class: "w-list" });
    const says = add(side, "p", { class: "w-says", role: "status" });
    svg.setAttribute("role", "group");

    /* Weights of each head over nothing, the shown purchases and the rest, without what was taken away; and the chance. */
    function weigh(home, promotion) {
      const left = promotion.weights.map((row) => {
        const kept = row.map((w, i) => (state.off.has(i) ? 0 : w));
        const sum = kept.reduce((a, b) => a + b, 0) || 1;
        return kept.map((w) => w / sum);
      });
      const width = promotion.rest.length / heads;
      const found = left.flatMap((row, h) => Array.from({ length: width }, (_, e) =>
        row.reduce((sum, w, i) => sum + w * (home.values[i] ?? promotion.rest)[h * width + e], 0)));
      const attended = net.join.map((row, d) => dot(row, found) + net.joinBias[d]);
      const { asks } = promotion;
      const all = [...asks, ...attended, ...asks.map((u, d) => u * attended[d])];
      const inside = net.inside.map((row, d) => gelu(dot(row, all) + net.insideBias[d]));
      const score = dot(net.last[0], inside) + net.lastBias[0] + promotion.constant;
      return { weights: left, score, chance: 1 / (1 + Math.exp(-score)) };
    }

    let buttons = [];
    function draw() {
      const home = homes[state.home];
      doors.forEach((door, n) => door.setAttribute("aria-pressed", n === state.home));
      list.replaceChildren();
      buttons = home.promotions.map((promotion, n) => {
        const button = add(add(list, "li"), "button", { type: "button" });
        add(button, "span", {}, promotion.name);
        add(button, "span", { class: "w-chance" });
        button.addEventListener("click", () => { state.chosen = n; light(n); keep(); });
        button.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") light(n); });
        return button;
      });
      light(state.chosen);
    }
    list.addEventListener("pointerleave", () => light(state.chosen));

    function light(n) {
      const home = homes[state.home];
      const focused = svg.contains(document.activeElement) ? document.activeElement.closest(".s-row")?.dataset.item : null;
      const promotion = home.promotions[n];
      const { weights, chance, score } = weigh(home, promotion);
      const rows = [[NOTHING, "where else to look"], ...home.items.map((item) => [item.name, since(item)]), [home.rest, "together"]];
      const highest = home.items.map((_, i) => Math.max(...weights.map((row) => row[i + 1])));
      const awake = Math.max(...highest) >= 0.1 ? 1 + highest.indexOf(Math.max(...highest)) : 0;
      const column = weights.map((row) => row[awake]);
      const head = column.indexOf(Math.max(...column));
      const told = awake === 0 ? `${promotion.name} wakes up none of these purchases.`
        : `${promotion.name} wakes up ${rows[awake][0]}: ${column[head].toFixed(2)} of head ${head + 1}.`;
      svg.innerHTML = weights.map((_, h) => `<text class="w-head" x="${206 + 78 * h}" y="16">head ${h + 1}</text>`).join("") +
        rows.map(([called, more], i) => {
          const y = TOP + ROW * i;
          const bars = weights.map((row, h) =>
            `<rect class="w-bar w-weight" x="${206 + 78 * h}" y="${y + 4}" width="${(40 * row[i]).toFixed(1)}" height="18"></rect>` +
            `<text class="w-in" x="${(210 + 78 * h + 40 * row[i]).toFixed(1)}" y="${y + 18}">${row[i].toFixed(2)}</text>`).join("");
          const box = i === 0 ? "" : `<g class="w-out"><rect x="0" y="${y - 1}" width="360" height="${ROW - 2}" fill="transparent"></rect>` +
            `<rect class="s-box" x="3" y="${y + 5}" width="17" height="17" rx="3"></rect>` +
            (state.off.has(i) ? "" : `<path class="s-tick" d="M7 ${y + 14}l4 4 6 -9"></path>`) + "</g>";
          const kind = `s-row${i === awake && i > 0 ? " s-awake" : ""}${state.off.has(i) ? " s-off" : ""}`;
          const role = i === 0 ? "" : ` role="checkbox" tabindex="0" aria-checked="${!state.off.has(i)}" ` +
            `aria-label="${escaped(called)}, ${more}: weight ${weights.map((row) => row[i].toFixed(2)).join(" and ")}"`;
          return `<g class="${kind}" data-item="${i}"${role}>${box}<text class="s-name" x="28" y="${y + 12}">${escaped(cut(called, 25))}</text>` +
            `<text class="w-head" x="28" y="${y + 26}">${escaped(more)}</text>${bars}</g>`;
        }).join("") +
        `<text class="s-chance" x="2" y="${TOP + ROW * rows.length + 16}">${escaped(cut(promotion.name, 34))}: taken in ` +
        `${(100 * chance).toFixed(1)} of 100</text>`;
      buttons.forEach((button, m) => {
        button.setAttribute("aria-pressed", m === state.chosen);
        button.lastChild.textContent = `${(100 * weigh(home, home.promotions[m]).chance).toFixed(1)} %`;
      });
      if (focused) svg.querySelector(`.s-row[data-item="${focused}"]`)?.focus();
      const before = state.off.size ? ` With all of the past it was ${(100 * promotion.chance).toFixed(1)}.` : " Untick a purchase to take it away.";
      says.textContent = told + before;
      svg.setAttribute("aria-label", told);
      Object.assign(root.dataset, { weights: JSON.stringify(weights), score });
    }

    const keep = () => {
      if (onPage()) history.replaceState(null, "", `#shelf=${state.home}.${state.chosen}.${[...state.off].join("-")}`);
    };
    const flip = (target) => {
      const row = target.closest('.s-row[role="checkbox"]');
      if (!row) return false;
      const i = Number(row.dataset.item);
      if (!state.off.delete(i)) state.off.add(i);
      light(state.chosen);
      keep();
      return true;
    };
    svg.addEventListener("click", (event) => flip(event.target));
    svg.addEventListener("keydown", (event) => {
      if ((event.key === " " || event.key === "Enter") && flip(event.target)) event.preventDefault();
    });
    draw();
  }

  document.querySelectorAll('.widget[data-widget="shelf"]:not([data-ready])').forEach((root, place) => {
    root.dataset.ready = "";
    start(root, place === 0);
  });
})();
