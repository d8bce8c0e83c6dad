/* The widgets of the book: everything that they show is computed here, from what the reader has chosen. One copy stands
   in every output, so that it works in Jupyter, in Colab and on a page from disk. book/widgets.py draws the first picture. */
(() => {
  const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
  const times = (vector, table) => table[0].map((_, e) => vector.reduce((sum, x, d) => sum + x * table[d][e], 0));
  const two = (x) => (Math.abs(x) < 0.005 ? 0 : x).toFixed(2);
  const few = (x) => String(Number((Math.abs(x) < 0.005 ? 0 : x).toFixed(2)));
  const softmax = (scores) => {
    const highest = Math.max(...scores);
    const exps = scores.map((s) => Math.exp(s - highest));
    const sum = exps.reduce((a, b) => a + b, 0);
    return exps.map((e) => e / sum);
  };
  const add = (place, tag, values = {}, text = "") => {
    const node = place.appendChild(document.createElement(tag));
    Object.entries(values).forEach(([key, value]) => node.setAttribute(key, value));
    if (text) node.textContent = text;
    return node;
  };
  const cut = (name, letters) => (name.length > letters ? name.slice(0, letters - 1) + "…" : name);
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const tone = (kind, words) => `<span class="${kind}">${words}</span>`;

  /* A number of the reader's: a slider that a finger, a mouse and the arrow keys move. */
  function dial(place, name, { min, max, step }, changed, shown = few) {
    const label = add(place, "label");
    add(label, "span", {}, name);
    const input = add(label, "input", { type: "range", min, max, step });
    const told = add(label, "output");
    input.addEventListener("input", () => changed(Number(input.value)));
    return (value) => { input.value = value; told.textContent = shown(value); };
  }

  /* What was chosen stands in the page's address, so that a view can be shared. Not in a notebook, whose address is not ours. */
  const onPage = () => document.querySelector("article.bd-article") !== null;
  const kept = (name) => (location.hash.match(new RegExp(`[#&]${name}=([^&]*)`)) ?? [])[1];
  const keep = (name, value) => { if (onPage()) history.replaceState(null, "", `#${name}=${value}`); };

  /* A box to tick. */
  function tick(place, name, on, changed) {
    const label = add(place, "label", { class: "w-tick" });
    const input = add(label, "input", { type: "checkbox" });
    add(label, "span", {}, name);
    input.checked = on;
    input.addEventListener("change", () => changed(input.checked));
    return (value) => { input.checked = value; };
  }

  /* A bar for each [name, value, label], as book/widgets.py draws the first ones. */
  const bars = (rows, kind) => rows.map(([name, value, label], i) => {
    const length = 138 * (value || 0);
    return `<text class="w-row" x="132" y="${26 * i + 17}" text-anchor="end">${escaped(cut(name, 20))}</text>` +
      `<rect class="w-bar w-${kind}" x="138" y="${26 * i + 4}" width="${length.toFixed(1)}" height="18"></rect>` +
      `<text class="w-number" x="${(142 + length).toFixed(1)}" y="${26 * i + 17}">${escaped(label)}</text>`;
  }).join("");

  const table = (names, weights, keep) => {
    const pitch = 204 / names.length;
    const heads = names.map((name, j) =>
      `<text class="w-head" transform="translate(${(132 + (j + 0.3) * pitch).toFixed(1)} 54) rotate(-38)">` +
      `${escaped(cut(name, 11))}</text>`).join("");
    return heads + names.map((name, i) =>
      `<text class="w-row" x="126" y="${60 + 34 * i + 20}" text-anchor="end">${escaped(cut(name, 18))}</text>` +
      names.map((_, j) =>
        `<g class="w-pair" data-pair="${i}.${j}"><rect class="w-cell w-weight" x="${(132 + j * pitch).toFixed(1)}" ` +
        `y="${60 + 34 * i}" width="${(pitch - 3).toFixed(1)}" height="30" rx="3" ` +
        `fill-opacity="${(keep[i][j] ? 0.05 + 0.75 * weights[i][j] : 0).toFixed(2)}"></rect>` +
        `<text class="w-in" x="${(132 + (j + 0.5) * pitch - 1.5).toFixed(1)}" y="${60 + 34 * i + 20}" ` +
        `text-anchor="middle">${keep[i][j] ? weights[i][j].toFixed(2) : "–"}</text></g>`).join("")).join("");
  };

  /* A matrix that came as whole numbers and a scale; what is a plain list stays one. */
  function unpacked(table) {
    if (typeof table[0] !== "string") return table;
    const [packed, [rows, columns], scale] = table;
    const whole = Int8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    return Array.from({ length: rows }, (_, r) => Array.from(whole.subarray(r * columns, (r + 1) * columns), (n) => n * scale));
  }
  const linear = (x, weight, bias) => weight.map((row, i) => dot(row, x) + bias[i]); // as torch.nn.Linear
  const plus = (a, b) => a.map((x, i) => x + b[i]);
  function normed(x, weight, bias) {
    const mean = x.reduce((a, b) => a + b, 0) / x.length;
    const spread = Math.sqrt(x.reduce((sum, v) => sum + (v - mean) ** 2, 0) / x.length + 1e-5);
    return x.map((v, i) => ((v - mean) / spread) * weight[i] + bias[i]);
  }
  /* The integral in GELU, to seven digits: Abramowitz and Stegun 1964, 7.1.26. */
  function gelu(x) {
    const z = Math.abs(x) / Math.SQRT2;
    const t = 1 / (1 + 0.3275911 * z);
    const series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return (x / 2) * (1 + Math.sign(x) * (1 - series * Math.exp(-z * z)));
  }
  /* Which number of a relative bias belongs to a distance, as in attncore.attention.RelativeBias. */
  function bucket(distance, buckets, farthest = 128) {
    const exact = buckets >> 1;
    if (distance < exact) return distance;
    const edge = (n) => Math.round(exact * (farthest / exact) ** (n / (buckets - exact)));
    let found = exact - 1;
    for (let n = 0; n < buckets - exact; n++) if (edge(n) <= distance) found = exact + n;
    return found;
  }

  /* A trained model of plain self-attention, as attncore.Recommender: all scores after a history, and each head's weights. */
  function answers(model, heads, blocks, history) {
    const items = model["embedding.item.id.weight"];
    const places = model["embedding.position.place.weight"];
    const near = model["encoder.relative.position_SH"];
    let x = history.map((item, t) => (places ? plus(items[item + 1], places[t]) : items[item + 1]));
    let weights = [];
    for (let b = 0; b < blocks; b++) {
      const of = (name) => model[`encoder.blocks.${b}.${name}`];
      const map = (name, v) => linear(v, of(`${name}.weight`), of(`${name}.bias`));
      const n = x.map((v) => normed(v, of("norm_attention.weight"), of("norm_attention.bias")));
      const [q, k, v] = ["query", "key", "value"].map((name) => n.map((row) => map(`attention.${name}`, row)));
      const width = q[0].length / heads;
      const part = (row, h) => row.slice(h * width, (h + 1) * width);
      weights = Array.from({ length: heads }, () => []);
      const attended = x.map((_, t) => Array.from({ length: heads }, (_, h) => {
        const seen = k.slice(0, t + 1).map((key, s) =>
          dot(part(q[t], h), part(key, h)) / Math.sqrt(width) + (near ? near[bucket(t - s, near.length)][h] : 0));
        const row = softmax(seen);
        weights[h][t] = row;
        return part(v[0], h).map((_, e) => row.reduce((sum, w, s) => sum + w * v[s][h * width + e], 0));
      }).flat());
      x = x.map((row, t) => plus(row, map("attention.out_proj", attended[t])));
      x = x.map((row) => {
        const inside = normed(row, of("norm_network.weight"), of("norm_network.bias"));
        return plus(row, map("network.2", map("network.0", inside).map(gelu)));
      });
    }
    const state = normed(x[x.length - 1], model["encoder.norm.weight"], model["encoder.norm.bias"]);
    const bias = model["output.bias"];
    const scores = items.slice(1).map((item, j) => dot(state, item) + (bias ? bias[j + 1] : 0));
    return { scores, weights: weights.map((rows) => rows[rows.length - 1]) };
  }

  const widgets = {
    talk(root, { names, history: first, heads, blocks, most, best, tables }) {
      const [side, svg] = [root.querySelector(".w-side"), root.querySelector("svg")];
      const model = Object.fromEntries(Object.entries(tables).map(([name, table]) => [name, unpacked(table)]));
      const state = { history: [...first], chosen: 0 };
      const wanted = (kept("talk") ?? "").split(".").map(Number);
      if (wanted.length && wanted.length <= most && wanted.every((i) => Number.isInteger(i) && i > 0 && i <= names.length)) {
        state.history = wanted.map((i) => i - 1);
      }
      const more = add(side, "label", { class: "w-add" });
      add(more, "span", {}, "Add to the history");
      const select = add(more, "select");
      add(select, "option", { value: "" }, "choose …");
      names.map((name, i) => [name, i]).sort(([a], [b]) => a.localeCompare(b, "en")).forEach(([name, i]) =>
        add(select, "option", { value: i }, name));
      select.addEventListener("change", () => { if (select.value) took(Number(select.value)); select.value = ""; });
      const list = add(side, "ol", { class: "w-list" });
      const again = add(side, "button", { type: "button" }, "Start over");
      again.addEventListener("click", () => { state.history = [...first]; state.chosen = 0; update(); });
      const says = add(side, "p", { class: "w-says", role: "status" });
      svg.setAttribute("role", "group");
      const leave = (event) => {
        const out = event.target.closest(".w-out");
        if (!out || (event.type === "keydown" && event.key !== "Enter" && event.key !== " ")) return;
        event.preventDefault();
        state.history = state.history.filter((_, i) => i !== Number(out.dataset.out));
        state.chosen = 0;
        update();
        (svg.querySelector(".w-out") ?? select).focus();
      };
      svg.addEventListener("click", leave);
      svg.addEventListener("keydown", leave);
      function took(item) {
        state.history = [...state.history, item].slice(-most);
        state.chosen = 0;
        update();
      }

      let touched = false;
      function update() {
        const { history } = state;
        const found = answers(model, heads, blocks, history);
        const order = names.map((_, i) => i).filter((i) => !history.includes(i))
          .sort((a, b) => found.scores[b] - found.scores[a] || a - b).slice(0, best);
        const watched = order[state.chosen];
        const drops = history.map((_, i) => {
          const without = history.filter((_, j) => j !== i);
          const bias = model["output.bias"];
          const score = without.length ? answers(model, heads, blocks, without).scores[watched] : bias ? bias[watched + 1] : 0;
          return found.scores[watched] - score;
        });
        const highest = Math.max(0.05, ...drops.map(Math.abs));
        const middle = (150 + 56 * heads + 318) / 2;
        svg.innerHTML = found.weights.map((_, h) => `<text class="w-head" x="${150 + 56 * h}" y="30">head ${h + 1}</text>`).join("") +
          `<text class="w-head" x="358" y="14" text-anchor="end">score of ${escaped(cut(names[watched], 24))} lost without it</text>` +
          `<path class="w-axis" d="M${middle.toFixed(1)} 22V${40 + 26 * history.length}"></path>` +
          history.map((item, i) => {
            const y = 40 + 26 * i;
            const looks = found.weights.map((row, h) =>
              `<rect class="w-bar w-weight" x="${150 + 56 * h}" y="${y}" width="${(28 * row[i]).toFixed(1)}" height="18"></rect>` +
              `<text class="w-in" x="${(152 + 56 * h + 28 * row[i]).toFixed(1)}" y="${y + 14}">${two(row[i])}</text>`).join("");
            const long = (22 * Math.abs(drops[i])) / highest;
            const left = middle - (drops[i] < 0 ? long : 0);
            const out = history.length < 2 ? "" : `<g class="w-out" data-out="${i}" role="button" tabindex="0" ` +
              `aria-label="take ${escaped(names[item])} out"><rect x="-14" y="${y - 3}" width="24" height="24"></rect>` +
              `<text x="-6" y="${y + 14}">×</text></g>`;
            return `${out}<text class="w-row" x="146" y="${y + 14}" text-anchor="end">${escaped(cut(names[item], 21))}</text>${looks}` +
              `<rect class="w-bar ${drops[i] < 0 ? "w-less" : "w-value"}" x="${left.toFixed(1)}" y="${y}" ` +
              `width="${long.toFixed(1)}" height="18"></rect><text class="w-in" x="358" y="${y + 14}" text-anchor="end">` +
              `${(drops[i] < 0 ? "-" : "+") + Math.abs(drops[i]).toFixed(1)}</text>`;
          }).join("");
        list.replaceChildren();
        order.forEach((item, place) => {
          const row = add(list, "li", { class: place === state.chosen ? "w-chosen" : "" });
          const look = add(row, "button", { type: "button", "aria-pressed": place === state.chosen }, names[item]);
          look.addEventListener("click", () => { state.chosen = place; update(); list.children[place].firstChild.focus(); });
          const take = add(row, "button", { type: "button", "aria-label": `take ${names[item]}` }, "+");
          take.addEventListener("click", () => took(item));
        });
        const top = drops.indexOf(Math.max(...drops));
        says.textContent = `After ${names[history[history.length - 1]]}, the best next is ${names[order[0]]}. ` +
          `${names[history[top]]} speaks most for ${names[watched]}.`;
        svg.setAttribute("aria-label", says.textContent);
        Object.assign(root.dataset, {
          order: JSON.stringify(order), drops: JSON.stringify(drops), weights: JSON.stringify(found.weights),
        });
        if (touched) keep("talk", history.map((i) => i + 1).join("."));
      }
      update();
      touched = true;
    },

    softmax(root, { names, scores: first }) {
      const [side, svg] = [root.querySelector(".w-side"), root.querySelector("svg")];
      const state = { scores: [...first], keep: first.map(() => true), heat: 1, safe: true, up: 0 };
      const box = add(side, "fieldset", { class: "w-dials" });
      add(box, "legend", {}, "scores, and who may be looked at");
      const dials = names.map((name, j) => {
        const row = add(box, "div", { class: "w-pairs" });
        const may = tick(row, "", true, (on) => { state.keep[j] = on; update(); });
        row.querySelector("input").setAttribute("aria-label", `${name} may be looked at`);
        const turn = dial(row, name, { min: -5, max: 10, step: 0.1 }, (value) => { state.scores[j] = value; update(); });
        return () => { may(state.keep[j]); turn(state.scores[j]); };
      });
      const heat = dial(box, "temperature", { min: -1, max: 1, step: 0.05 }, (value) => { state.heat = 10 ** value; update(); },
        (value) => two(10 ** value));
      const more = add(side, "div", { class: "w-steps" });
      const safe = tick(more, "subtract the largest score first", true, (on) => { state.safe = on; update(); });
      const far = tick(more, "add 90 to every score", false, (on) => { state.up = on ? 90 : 0; update(); });
      const again = add(more, "button", { type: "button" }, "Start over");
      again.addEventListener("click", () => {
        Object.assign(state, { scores: [...first], keep: first.map(() => true), heat: 1, safe: true, up: 0 });
        update();
      });
      const says = add(side, "p", { class: "w-says", role: "status" });

      function update() {
        const single = Math.fround; // as a model computes: an exponential above 3.4e38 is infinite
        const raw = state.scores.map((s) => single((s + state.up) / state.heat));
        const kept = raw.filter((_, j) => state.keep[j]);
        const highest = state.safe && kept.length ? Math.max(...kept) : 0;
        const exps = raw.map((s, j) => (state.keep[j] ? single(Math.exp(s - highest)) : 0));
        const total = exps.reduce((a, b) => single(a + b), 0);
        const weights = exps.map((e) => (kept.length ? e / total : 0));
        const label = (w) => (Number.isFinite(w) ? w.toFixed(2) : "not a number");
        svg.innerHTML = bars(names.map((name, j) => [name, weights[j], label(weights[j])]), "weight");
        dials.forEach((renew) => renew());
        heat(Math.log10(state.heat));
        safe(state.safe);
        far(state.up > 0);
        const broken = weights.some((w) => !Number.isFinite(w));
        const entropy = -weights.filter((w) => w > 0).reduce((sum, w) => sum + w * Math.log(w), 0);
        const order = names.map((name, j) => [weights[j], name]).sort((a, b) => b[0] - a[0]);
        says.textContent = broken
          ? "e to such a score is more than a float32 can hold: infinity divided by infinity is not a number."
          : !kept.length ? "A query that may look nowhere gets no weights: zeros, and not NaN."
          : `Most weight: ${order[0][1]}, ${two(order[0][0])}. It is as if ${Math.exp(entropy).toFixed(1)} of ` +
            `${names.length} were looked at equally.`;
        svg.setAttribute("aria-label", says.textContent);
        root.dataset.weights = JSON.stringify(weights.map((w) => (Number.isFinite(w) ? w : null)));
      }
      update();
    },

    loss(root, { names, scores: first, target }) {
      const [side, svg] = [root.querySelector(".w-side"), root.querySelector("svg")];
      const scores = [...first];
      const box = add(side, "fieldset", { class: "w-dials" });
      add(box, "legend", {}, `score of ${names[target]}, which was taken`);
      const turn = dial(box, "score", { min: -5, max: 10, step: 0.1 }, (value) => { scores[target] = value; update(); });
      const again = add(add(side, "div", { class: "w-steps" }), "button", { type: "button" }, "Start over");
      again.addEventListener("click", () => { scores[target] = first[target]; update(); });
      const says = add(side, "p", { class: "w-says", role: "status" });
      const sum = add(side, "p", { class: "w-sum" });

      function update() {
        const chances = softmax(scores);
        const pulls = chances.map((p, j) => p - (j === target));
        const signed = (x) => (Math.abs(x) < 0.005 ? (x < 0 ? "-0.00" : "+0.00") : (x > 0 ? "+" : "") + x.toFixed(2));
        svg.innerHTML = bars(names.map((name, j) =>
          [name + (j === target ? " ✓" : ""), chances[j], `${chances[j].toFixed(2)} (${signed(pulls[j])})`]), "query");
        turn(scores[target]);
        const loss = -Math.log(chances[target]);
        says.textContent = `${names[target]} has probability ${two(chances[target])}: the loss is ${two(loss)}. ` +
          `In brackets, the gradient: what training subtracts from each score.`;
        sum.innerHTML = `−ln ${tone("q", two(chances[target]))} = ${two(loss)}`;
        svg.setAttribute("aria-label", says.textContent);
        Object.assign(root.dataset, { chances: JSON.stringify(chances), loss });
      }
      update();
    },

    evaluation(root, first) {
      const [side, svg] = [root.querySelector(".w-side"), root.querySelector("svg")];
      const state = { ...first };
      const box = add(side, "fieldset", { class: "w-dials" });
      add(box, "legend", {}, `one true item among ${first.items.toLocaleString("en")}`);
      const dials = [
        dial(box, "its rank", { min: 1, max: Math.min(first.items, 400), step: 1 }, (v) => { state.rank = v; update(); }),
        dial(box, "k", { min: 1, max: 50, step: 1 }, (v) => { state.k = v; update(); }),
        dial(box, "sample", { min: 10, max: first.items - 1, step: 1 }, (v) => { state.sample = v; update(); }),
      ];
      const again = add(add(side, "div", { class: "w-steps" }), "button", { type: "button" }, "Start over");
      again.addEventListener("click", () => { Object.assign(state, first); update(); });
      const says = add(side, "p", { class: "w-says", role: "status" });
      const logs = [0];
      for (let n = 1; n <= first.items; n++) logs.push(logs[n - 1] + Math.log(n));
      const choose = (n, m) => (m < 0 || m > n ? -Infinity : logs[n] - logs[m] - logs[n - m]);

      function update() {
        const { items, rank, k, sample } = state;
        const full = rank <= k ? [1, 1 / Math.log2(rank + 1)] : [0, 0];
        let [hit, gain] = [0, 0];
        for (let above = 0; above < Math.min(k, rank, sample + 1); above++) {
          const chance = Math.exp(choose(rank - 1, above) + choose(items - rank, sample - above) - choose(items - 1, sample));
          hit += chance;
          gain += chance / Math.log2(above + 2);
        }
        const values = [...full, hit, gain];
        const labels = ["hit rate", "NDCG", "hit rate, sampled", "NDCG, sampled"];
        svg.innerHTML = bars(labels.map((name, i) => [name, values[i], values[i].toFixed(3)]), "query");
        [rank, k, sample].forEach((value, i) => dials[i](value));
        says.textContent = full[0] === 0 && hit > 0.05
          ? `Rank ${rank} is not in the first ${k}: a miss. Among ${sample} items drawn at random it looks like a hit ` +
            `about ${Math.round(100 * hit)} times in 100.`
          : `Rank ${rank} of ${items.toLocaleString("en")}, a list of ${k}, ${sample} wrong items drawn at random.`;
        svg.setAttribute("aria-label", labels.map((name, i) => `${name} ${values[i].toFixed(3)}`).join(", ") + ".");
        root.dataset.values = JSON.stringify(values);
      }
      update();
    },

    order(root, { names: first, scores: match, step }) {
      const [side, svg] = [root.querySelector(".w-side"), root.querySelector("svg")];
      const count = first.length;
      const causal = () => first.map((_, i) => first.map((_, j) => j <= i));
      const state = { order: first.map((_, i) => i), positions: true, keep: causal() };
      const box = add(side, "fieldset", { class: "w-dials" });
      add(box, "legend", {}, "order, oldest first");
      const rows = first.map((_, i) => {
        const row = add(box, "div", { class: "w-pairs" });
        const earlier = add(row, "button", { type: "button" }, "↑");
        const later = add(row, "button", { type: "button" }, "↓");
        const name = add(row, "span");
        const swap = (a, b) => { [state.order[a], state.order[b]] = [state.order[b], state.order[a]]; update(); };
        earlier.disabled = i === 0;
        later.disabled = i === count - 1;
        earlier.addEventListener("click", () => swap(i, i - 1));
        later.addEventListener("click", () => swap(i, i + 1));
        return () => {
          const film = first[state.order[i]];
          name.textContent = film;
          earlier.setAttribute("aria-label", `${film} one place earlier`);
          later.setAttribute("aria-label", `${film} one place later`);
        };
      });
      const more = add(side, "div", { class: "w-steps" });
      const positions = tick(more, "positions count", true, (on) => { state.positions = on; update(); });
      const ahead = tick(more, "events may look ahead", false, (on) => {
        state.keep = on ? first.map(() => first.map(() => true)) : causal();
        update();
      });
      const says = add(side, "p", { class: "w-says", role: "status" });
      svg.setAttribute("role", "group");
      const flip = (pair) => {
        const [i, j] = pair.dataset.pair.split(".").map(Number);
        state.keep[i][j] = !state.keep[i][j];
        update();
        svg.querySelector(`[data-pair="${i}.${j}"]`).focus();
      };
      svg.addEventListener("click", (event) => { const pair = event.target.closest(".w-pair"); if (pair) flip(pair); });
      svg.addEventListener("keydown", (event) => {
        const pair = event.target.closest(".w-pair");
        if (!pair || (event.key !== "Enter" && event.key !== " ")) return;
        event.preventDefault();
        flip(pair);
      });

      function update() {
        const names = state.order.map((i) => first[i]);
        const weights = state.order.map((asks, i) => {
          const scores = state.order.map((seen, j) => match[asks][seen] - (state.positions ? step * Math.abs(i - j) : 0));
          const seen = scores.filter((_, j) => state.keep[i][j]);
          const part = seen.length ? softmax(seen) : [];
          return scores.map((_, j) => (state.keep[i][j] ? part.shift() : 0));
        });
        svg.innerHTML = table(names, weights, state.keep);
        svg.querySelectorAll(".w-pair").forEach((pair) => {
          const [i, j] = pair.dataset.pair.split(".").map(Number);
          const said = state.keep[i][j] ? `looks at ${names[j]} with weight ${two(weights[i][j])}` : `may not look at ${names[j]}`;
          Object.entries({ role: "button", tabindex: "0", "aria-pressed": state.keep[i][j], "aria-label": `${names[i]} ${said}` })
            .forEach(([key, value]) => pair.setAttribute(key, value));
        });
        rows.forEach((renew) => renew());
        positions(state.positions);
        const peeks = state.keep.some((row, i) => row.some((may, j) => may && j > i));
        ahead(peeks && state.keep.flat().every(Boolean));
        const last = weights[count - 1];
        const top = last.indexOf(Math.max(...last));
        says.textContent = peeks
          ? "An event that may look ahead sees its own answer. It need not learn anything. It reads."
          : Math.max(...last) === 0 ? `${names[count - 1]} may look nowhere: no weights.`
          : `${names[count - 1]}, the newest, looks most at ${names[top]}, ${two(last[top])}. ` +
            (state.positions ? "The further back, the less." : "Without positions only who is there counts, not when.");
        svg.setAttribute("aria-label", says.textContent);
        root.dataset.weights = JSON.stringify(weights);
      }
      update();
    },

    stepper(root, data) {
      const { history: past, candidates, features, maps } = data;
      const state = {
        step: 8, film: 0, asks: 0, chosen: ["film", 0],
        context: data.context.map((v) => [...v]), asked: data.asked.map((v) => [...v]),
      };
      const numbers = () => [...state.context, ...state.asked].flat();
      const steps = ["context", "query", "key", "score", "÷ √width", "exp", "weight", "value", "answer"];
      const side = root.querySelector(".w-side");
      const svg = root.querySelector("svg");
      const at = (name) => svg.querySelector(`[data-at="${name}"]`);

      const bar = add(side, "div", { class: "w-steps" });
      const back = add(bar, "button", { type: "button", "aria-label": "one step back" }, "◀");
      const play = add(bar, "button", { type: "button" }, "Play");
      const on = add(bar, "button", { type: "button", "aria-label": "one step on" }, "▶");
      const where = add(bar, "span");
      const says = add(side, "p", { class: "w-says", role: "status" });
      const sum = add(side, "p", { class: "w-sum" });
      const box = add(side, "fieldset", { class: "w-dials" });
      const legend = add(box, "legend");
      const dials = features.map((name, d) => dial(box, name, { min: 0, max: 3, step: 0.5 }, (value) => {
        const [kind, i] = state.chosen;
        (kind === "film" ? state.context : state.asked)[i][d] = value;
        update();
      }));
      const again = add(add(side, "p"), "button", { type: "button" }, "Start over");

      let timer = null;
      const stop = () => { clearInterval(timer); timer = null; play.textContent = "Play"; };
      const go = (step) => { state.step = Math.max(0, Math.min(steps.length - 1, step)); update(); };
      back.addEventListener("click", () => { stop(); go(state.step - 1); });
      on.addEventListener("click", () => { stop(); go(state.step + 1); });
      play.addEventListener("click", () => {
        if (timer) return stop();
        go(state.step === steps.length - 1 ? 0 : state.step + 1);
        play.textContent = "Pause";
        timer = setInterval(() => { go(state.step + 1); if (state.step === steps.length - 1) stop(); }, 2200);
      });
      again.addEventListener("click", () => {
        stop();
        Object.assign(state, { step: 8, film: 0, asks: 0, chosen: ["film", 0] });
        state.context = data.context.map((v) => [...v]);
        state.asked = data.asked.map((v) => [...v]);
        update();
      });

      const choose = (kind, i) => {
        state.chosen = [kind, i];
        if (kind === "film") state.film = i; else state.asks = i;
        update();
      };
      const cards = [...svg.querySelectorAll(".w-card")].map((card) => {
        const kind = card.dataset.film === undefined ? "candidate" : "film";
        const i = Number(card.dataset[kind]);
        const name = (kind === "film" ? past : candidates)[i];
        card.setAttribute("role", "button");
        card.setAttribute("tabindex", "0");
        card.setAttribute("aria-label", kind === "film" ? `choose ${name}` : `${name} asks`);
        card.addEventListener("click", () => choose(kind, i));
        card.addEventListener("keydown", (event) => {
          if (event.key !== "Enter" && event.key !== " ") return;
          event.preventDefault();
          choose(kind, i);
        });
        return { card, kind, i };
      });
      svg.setAttribute("role", "group");

      const paint = (place, vector, role) => {
        place.querySelectorAll(".w-cell").forEach((cell, d) => {
          cell.setAttribute("class", `w-cell w-${role}`);
          cell.setAttribute("fill-opacity", (0.08 + 0.5 * Math.min(1, Math.abs(vector[d]) / 4)).toFixed(2));
        });
        place.querySelectorAll(".w-in").forEach((text, d) => { text.textContent = two(vector[d]); });
      };
      const products = (a, b, toneA, toneB) => a.map((x, d) => `${tone(toneA, few(x))}·${tone(toneB, few(b[d]))}`).join(" + ");
      const vector = (kind, v) => tone(kind, `(${v.map(few).join(", ")})`);

      function update() {
        const { step, film, asks, context, asked } = state;
        const [Q, K, V] = maps;
        const queries = asked.map((v) => times(v, Q));
        const [keys, values] = [context.map((v) => times(v, K)), context.map((v) => times(v, V))];
        const root3 = Math.sqrt(features.length);
        const look = (query) => {
          const scores = keys.map((key) => dot(query, key));
          const scaled = scores.map((s) => s / root3);
          const weights = softmax(scaled);
          const attended = features.map((_, d) => weights.reduce((total, w, j) => total + w * values[j][d], 0));
          return { scores, scaled, exps: scaled.map(Math.exp), weights, attended };
        };
        const looks = queries.map(look);
        const now = looks[asks];
        const answers = looks.map((l, i) => dot(l.attended, asked[i]));
        const total = now.exps.reduce((a, b) => a + b, 0);

        cards.forEach(({ card, kind, i }) => {
          const mine = state.chosen[0] === kind && state.chosen[1] === i;
          card.setAttribute("class", `w-card${mine ? " w-chosen" : ""}${kind === "candidate" && i === asks ? " w-asks" : ""}`);
          card.setAttribute("aria-pressed", mine);
          if (kind === "candidate") {
            const asking = i === asks && step > 0 && step < 7;
            paint(card, asking ? queries[i] : asked[i], asking ? "query" : "context");
            const told = at(`score-${i}`);
            told.textContent = two(answers[i]);
            [told, told.previousSibling].forEach((t) => t.setAttribute("class", answers[i] === Math.max(...answers) ? "w-best" : ""));
          } else if (step < 2) paint(card, context[i], "context");
          else if (step < 7) paint(card, keys[i], "key");
          else paint(card, values[i], "value");
        });
        const shown = step < 3 ? null : [now.scores, now.scaled, now.exps][step - 3] ?? now.weights;
        past.forEach((_, j) => {
          const link = svg.querySelector(`[data-link="${j}"]`);
          const right = 44 + 60 * asks;
          const left = 44 + 60 * j;
          link.setAttribute("d", `M222 ${right}C186 ${right} 186 ${left} 150 ${left}`);
          link.setAttribute("stroke-width", (step < 6 ? 1.5 : 0.5 + 14 * now.weights[j]).toFixed(2));
          link.style.display = step < 3 ? "none" : "";
          at(`link-${j}`).textContent = shown ? two(shown[j]) : "";
        });
        const out = svg.querySelector("[data-sum]");
        out.style.display = step < 8 ? "none" : "";
        paint(out, now.attended, "value");

        const [name, question] = [past[film], candidates[asks]];
        const [q, k, v] = [queries[asks], keys[film], values[film]];
        const told = [
          [`Each past film is a few numbers: its context vector. Choose a film and turn its dials.`,
            `${name} = (${context[film].map(few).join(", ")})`],
          [`${question} asks. A map turns its numbers into a query: what it looks for.`,
            `query = ${vector("q", q)}`],
          [`A second map turns each past film into a key: what it can be found by.`,
            `key of ${name} = ${vector("k", k)}`],
          [`Query times key: how well does ${name} match the question?`,
            `${products(q, k, "q", "k")} = ${few(now.scores[film])}`],
          [`Divide by the root of the width, so that long vectors do not shout.`,
            `${few(now.scores[film])} ÷ √${features.length} = ${few(now.scaled[film])}`],
          [`Raise e to each score: all become positive, and larger ones grow most.`,
            `exp(${few(now.scaled[film])}) = ${few(now.exps[film])}`],
          [`Divide by the sum. These are the attention weights: together they are 1.`,
            `${few(now.exps[film])} ÷ ${few(total)} = ${tone("w", two(now.weights[film]))}`],
          [`A third map makes the value of each film: what it says once it is looked at.`,
            `value of ${name} = ${vector("v", v)}`],
          [`The values, averaged by the weights, are the attended vector; times ${question}, it is the score.`,
            `${products(now.attended, asked[asks], "v", "q")} = ${few(answers[asks])}`],
        ][step];
        says.textContent = told[0];
        sum.innerHTML = told[1];
        where.textContent = `step ${step + 1} of ${steps.length}: ${steps[step]}`;
        back.disabled = step === 0;
        on.disabled = step === steps.length - 1;
        const [kind, i] = state.chosen;
        legend.textContent = (kind === "film" ? past : candidates)[i];
        (kind === "film" ? context : asked)[i].forEach((value, d) => dials[d](value));
        const order = now.weights.map((w, j) => [w, past[j]]).sort((a, b) => b[0] - a[0]);
        svg.setAttribute("aria-label",
          `${question} looks most at ${order[0][1]}, weight ${two(order[0][0])}; the scores are ` +
          `${candidates.map((c, j) => `${c} ${two(answers[j])}`).join(" and ")}.`);
        Object.assign(root.dataset, {
          weights: JSON.stringify(now.weights), attended: JSON.stringify(now.attended), answers: JSON.stringify(answers),
        });
        if (touched) keep("stepper", [step, film, asks, numbers().map((x) => x * 2).join("")].join("."));
      }

      let touched = false;
      const found = (kept("stepper") ?? "").split(".");
      if (found.length === 4 && found[3].length === numbers().length && /^\d+$/.test(found.join(""))) {
        const [step, film, asks] = found.slice(0, 3).map(Number);
        state.film = Math.min(film, past.length - 1);
        state.asks = Math.min(asks, candidates.length - 1);
        state.step = Math.min(step, steps.length - 1);
        state.chosen = ["film", state.film];
        const all = [...found[3]].map((digit) => Math.min(Number(digit), 6) / 2);
        const cut = (from, i) => all.slice((from + i) * features.length, (from + i + 1) * features.length);
        state.context = past.map((_, i) => cut(0, i));
        state.asked = candidates.map((_, i) => cut(past.length, i));
      }
      update();
      touched = true;
    },
  };

  document.querySelectorAll(".widget:not([data-ready])").forEach((root) => {
    root.dataset.ready = "";
    root.querySelector(".w-side").hidden = false;
    widgets[root.dataset.widget](root, JSON.parse(root.querySelector("script[type='application/json']").textContent));
  });
})();
