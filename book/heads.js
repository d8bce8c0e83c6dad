/* A matrix of dot products, split into heads and joined. book/heads.py draws the first picture; all else is computed
   here, from the rows of query, key and value. */
(() => {
  const [LEFT, CELL, ROW, WIDE] = [66, 30, 30, 358];
  const small = (x) => (Math.abs(x) < 0.005 ? 0 : x);
  const two = (x) => small(x).toFixed(2);
  const few = (x) => String(Number(two(x)));
  const shade = (x) => 0.08 + 0.5 * Math.min(1, Math.abs(x) / 4);
  const cut = (name, letters) => (name.length > letters ? name.slice(0, letters - 1) + "…" : name);
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const tone = (kind, words) => `<span class="${kind}">${words}</span>`;
  const inTwo = (name) => {
    const [first, ...rest] = name.split(" ");
    let line = first;
    while (rest.length && line.length + 1 + rest[0].length <= 10) line += ` ${rest.shift()}`;
    return [line, rest.join(" ")].filter(Boolean).map((words) => cut(words, 11));
  };
  const onPage = () => document.querySelector("article.bd-article") !== null;
  const add = (place, tag, values = {}, text = "") => {
    const node = place.appendChild(document.createElement(tag));
    Object.entries(values).forEach(([key, value]) => node.setAttribute(key, value));
    if (text) node.textContent = text;
    return node;
  };

  function start(root, first) {
    const { query, key, value, queries, events, features } = JSON.parse(
      root.querySelector("script[type='application/json']").textContent);
    const [L, K, E] = [queries.length, events.length, features.length];
    const counts = Array.from({ length: E }, (_, n) => n + 1).filter((n) => E % n === 0);
    const state = { heads: 1, head: 0, weighed: false, kind: "score", i: 0, j: 0 };
    const known = (location.hash.match(/[#&]heads=(\d+)\.(\d+)\.([01])\.([sa])\.(\d+)\.(\d+)/) ?? []).slice(1);
    if (first && onPage() && known.length) {
      const [heads, head, weighed, kind, i, j] = known;
      const [rows, columns] = kind === "s" ? [L, K] : [E, L];
      if (counts.includes(+heads) && +head < +heads && +i < rows && +j < columns) {
        Object.assign(state, { heads: +heads, head: +head, weighed: weighed === "1", kind: kind === "s" ? "score" : "sum", i: +i, j: +j });
      }
    }
    const svg = root.querySelector("svg");
    const side = root.querySelector(".w-side");
    side.hidden = false;
    const says = add(side, "p", { class: "w-says", role: "status" });
    const sum = add(side, "p", { class: "w-sum" });
    const choices = (name, labels, chosen) => {
      const bar = add(side, "div", { class: "w-steps", role: "group", "aria-label": name });
      add(bar, "span", {}, name);
      const buttons = labels.map((label, n) => {
        const button = add(bar, "button", { type: "button" }, label);
        button.addEventListener("click", () => { chosen(n); draw(); keep(); });
        return button;
      });
      return (n, shown = labels.length) => {
        bar.style.display = shown < 2 ? "none" : "";
        buttons.forEach((button, m) => {
          button.setAttribute("aria-pressed", m === n);
          button.style.display = m < shown ? "" : "none";
        });
      };
    };
    const countShown = choices("heads", counts.map(String), (n) => Object.assign(state, { heads: counts[n], head: 0 }));
    const headShown = choices("look at", features.map((_, n) => `head ${n + 1}`), (n) => { state.head = n; });
    const weighed = choices("show", ["dot products", "weights"], (n) => { state.weighed = n === 1; });
    svg.setAttribute("role", "group");

    /* All heads: their dot products, weights, and the part of the attended vectors that is theirs. */
    function compute() {
      const width = E / state.heads;
      const parts = Array.from({ length: state.heads }, (_, h) => {
        const inside = (d) => Math.floor(d / width) === h;
        const scores = query.map((q) => key.map((k) => q.reduce((s, x, d) => s + (inside(d) ? x * k[d] : 0), 0)));
        const weights = scores.map((row) => {
          const highest = Math.max(...row);
          const exps = row.map((s) => Math.exp((s - highest) / Math.sqrt(width)));
          const total = exps.reduce((a, b) => a + b, 0);
          return exps.map((e) => e / total);
        });
        return { scores, weights };
      });
      const attended = query.map((_, i) => features.map((_, d) =>
        parts[Math.floor(d / width)].weights[i].reduce((s, w, j) => s + w * value[j][d], 0)));
      return { width, parts, attended };
    }

    const cell = (kind, place, [x, y, width, height], role, opacity, words) =>
      `<g class="h-${kind}" data-cell="${place}"><rect class="w-cell w-${role}" x="${x.toFixed(1)}" y="${y}" ` +
      `width="${width.toFixed(1)}" height="${height}" rx="3" fill-opacity="${opacity.toFixed(2)}"></rect>` +
      `<text class="h-in" x="${(x + width / 2).toFixed(1)}" y="${y + height / 2 + 4}" text-anchor="middle">${words}</text></g>`;
    const label = (x, y, words, anchor) => `<text class="w-name" x="${x}" y="${y}" text-anchor="${anchor}">${words}</text>`;

    function draw() {
      const focused = svg.contains(document.activeElement) && document.activeElement.closest("[data-cell]");
      const { parts, attended } = compute();
      const shown = parts[state.head];
      const keys = 62;
      const asks = keys + 24 * E + 24;
      const values = asks + ROW * L + 26;
      const left = LEFT + CELL * E + 12;
      const pitch = (WIDE - left) / K;
      const across = Math.min(40, (CELL * E) / L);
      const most = Math.max(...shown.scores.flat().map(Math.abs)) || 1;
      const out = events.map((name, j) =>
        `<text class="w-head" transform="translate(${(left + (j + 0.35) * pitch).toFixed(1)} ${keys - 6}) rotate(-35)">` +
        `${escaped(cut(name, 13))}</text>`);
      out.push(label(left - 8, keys - 6, "key", "end"), label(LEFT, asks - 6, "query", "start"),
        label(left, asks - 6, state.weighed ? "weights" : "dot products", "start"),
        label(LEFT, values - 6, state.heads > 1 ? "joined" : "attended", "start"), label(left, values - 6, "value", "start"));
      features.forEach((name, d) => [[left - 8, keys], [LEFT - 6, values]].forEach(([x, y]) =>
        out.push(`<text class="w-head" x="${x}" y="${y + 24 * d + 15.5}" text-anchor="end">${escaped(cut(name, 10))}</text>`)));
      events.forEach((_, j) => features.forEach((_, d) =>
        [["key", key, keys], ["value", value, values]].forEach(([kind, table, y]) => {
          const number = table[j][d];
          out.push(cell(kind, `${d}.${j}`, [left + j * pitch, y + 24 * d, pitch - 3, 21], kind, shade(number), few(number)));
        })));
      queries.forEach((name, i) => {
        const y = asks + ROW * i;
        const lines = inTwo(name);
        lines.forEach((line, n) => out.push(`<text class="w-head" x="${LEFT - 6}" text-anchor="end" ` +
          `y="${y + 17.5 - 6.5 * (lines.length - 1) + 13 * n}">${escaped(line)}</text>`));
        query[i].forEach((number, d) =>
          out.push(cell("query", `${i}.${d}`, [LEFT + CELL * d, y, CELL - 3, ROW - 3], "query", shade(number), few(number))));
        events.forEach((_, j) => {
          const [score, weight] = [shown.scores[i][j], shown.weights[i][j]];
          const opacity = 0.05 + 0.45 * (state.weighed ? weight : Math.abs(score) / most);
          out.push(cell("score", `${i}.${j}`, [left + j * pitch, y, pitch - 3, ROW - 3], "weight", opacity, two(state.weighed ? weight : score)));
        });
      });
      queries.forEach((_, i) => features.forEach((_, d) => {
        const number = attended[i][d];
        out.push(cell("sum", `${d}.${i}`, [LEFT + across * i, values + 24 * d, across - 3, 21], "value", shade(number), two(number)));
      }));
      svg.innerHTML = out.join("");
      svg.querySelectorAll(".h-score, .h-sum").forEach((node) => node.setAttribute("role", "button"));
      countShown(counts.indexOf(state.heads));
      headShown(state.head, state.heads);
      weighed(Number(state.weighed));
      light(state.kind, state.i, state.j);
      if (focused) svg.querySelector(`.h-${state.kind}[data-cell="${state.i}.${state.j}"]`).focus();
    }

    /* What makes the cell (i, j): of the dot products, or of the attended vectors. */
    function light(kind, i, j) {
      const { width, parts, attended } = compute();
      const mine = (d) => Math.floor(d / width) === state.head;
      const { scores, weights } = parts[state.head];
      svg.querySelectorAll("[data-cell]").forEach((node) => {
        const [a, b] = node.dataset.cell.split(".").map(Number);
        const is = (name) => node.classList.contains(`h-${name}`);
        const d = is("query") ? b : is("score") ? -1 : a;
        const off = d >= 0 && state.heads > 1 && !mine(d) && !is("sum");
        const lit = kind === "score"
          ? (is("query") && a === i && mine(b)) || (is("key") && b === j && mine(a)) || (is("score") && a === i && b === j)
          : (is("score") && a === j) || (is("value") && a === i) || (is("sum") && a === i && b === j);
        node.classList.toggle("h-off", off);
        node.classList.toggle("h-lit", lit);
        if (is("score") || is("sum")) {
          const here = is(state.kind) && a === state.i && b === state.j;
          node.setAttribute("tabindex", here || (!is(state.kind) && a === 0 && b === 0) ? 0 : -1);
          node.setAttribute("aria-label", is("score")
            ? `${queries[a]} and ${events[b]}: ${two(state.weighed ? weights[a][b] : scores[a][b])}`
            : `${features[a]} of what ${queries[b]} attends to: ${two(attended[b][a])}`);
        }
      });
      const of = state.heads > 1 ? `In head ${state.head + 1}, which has ${width === 1 ? "one number" : `${width} numbers`} of each vector: ` : "";
      if (kind === "score") {
        const products = features.map((_, d) => d).filter(mine)
          .map((d) => `${tone("q", few(query[i][d]))}·${tone("k", few(key[j][d]))}`).join(" + ");
        const exps = scores[i].map((s) => Math.exp(s / Math.sqrt(width)));
        const scaled = few(scores[i][j] / Math.sqrt(width));
        const divided = width === 1 ? "" : `; ÷ √${width} = ${scaled}`;
        says.textContent = `${of}${queries[i]} meets ${events[j]}: a row of the query times a column of the key.`;
        sum.innerHTML = `${products} = ${few(scores[i][j])}` + (!state.weighed ? "" :
          `${divided}<br>exp(${scaled}) = ${few(exps[j])}; ÷ ${few(exps.reduce((a, b) => a + b, 0))} = ${tone("w", two(weights[i][j]))}`);
      } else {
        const h = Math.floor(i / width);
        const row = parts[h].weights[j];
        const from = state.heads > 1 ? ` The weights are those of head ${h + 1}.` : "";
        says.textContent = `${features[i]} of what ${queries[j]} attends to: its row of weights times a row of the value.${from}`;
        sum.innerHTML = `${row.map((w, k) => `${tone("w", two(w))}·${tone("v", few(value[k][i]))}`).join(" + ")} = ${two(attended[j][i])}`;
      }
      svg.setAttribute("aria-label", `${queries[0]} · ${events[0]} = ${few(scores[0][0])}. ` +
        "Each cell is a row of query times a column of key.");
      Object.assign(root.dataset, { scores: JSON.stringify(scores), weights: JSON.stringify(weights), attended: JSON.stringify(attended) });
    }

    const keep = () => {
      if (!onPage()) return;
      const { heads, head, weighed: w, kind, i, j } = state;
      history.replaceState(null, "", `#heads=${heads}.${head}.${Number(w)}.${kind === "score" ? "s" : "a"}.${i}.${j}`);
    };
    const at = (target) => {
      const node = target.closest(".h-score, .h-sum");
      return node && [node.classList.contains("h-score") ? "score" : "sum", ...node.dataset.cell.split(".").map(Number)];
    };
    /* A number of the attended vectors belongs to a head: that head's weights are shown. */
    const preview = ([kind, i, j]) => {
      const head = Math.floor(i / (E / state.heads));
      if (kind === "sum" && (head !== state.head || !state.weighed)) { Object.assign(state, { head, weighed: true }); draw(); }
      light(kind, i, j);
    };
    const choose = ([kind, i, j]) => { Object.assign(state, { kind, i, j }); preview([kind, i, j]); keep(); };
    svg.addEventListener("pointerover", (event) => { const found = event.pointerType === "mouse" && at(event.target); if (found) preview(found); });
    svg.addEventListener("pointerleave", () => light(state.kind, state.i, state.j));
    svg.addEventListener("click", (event) => { const found = at(event.target); if (found) choose(found); });
    svg.addEventListener("focusin", (event) => { const found = at(event.target); if (found) choose(found); });
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      const found = at(event.target);
      if (!step || !found) return;
      event.preventDefault();
      const [kind, i, j] = found;
      svg.querySelector(`.h-${kind}[data-cell="${i + step[0]}.${j + step[1]}"]`)?.focus();
    });
    draw();
  }

  document.querySelectorAll('.widget[data-widget="heads"]:not([data-ready])').forEach((root, place) => {
    root.dataset.ready = "";
    start(root, place === 0);
  });
})();
