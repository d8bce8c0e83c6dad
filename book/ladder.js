/* The ladder: point at a rung to compare it with the broken line; choose one, and the line goes there. book/ladder.py
   draws the first picture, and has compared each two rungs user by user. */
(() => {
  const signed = (x) => (x < 0 ? "-" : "+") + Math.abs(x).toFixed(4);
  const cut = (name, letters) => (name.length > letters ? name.slice(0, letters - 1) + "…" : name);
  const onPage = () => document.querySelector("article.bd-article") !== null;
  const [LEFT, RIGHT] = [152, 312];

  document.querySelectorAll('.widget[data-widget="ladder"]:not([data-ready])').forEach((root) => {
    root.dataset.ready = "";
    const place = [...document.querySelectorAll('.widget[data-widget="ladder"]')].indexOf(root);
    const address = place > 0 ? `ladder-${place + 1}` : "ladder"; // a page may have several
    const { rows, pairs, scale: [low, top], ...first } = JSON.parse(root.querySelector("script[type='application/json']").textContent);
    const svg = root.querySelector("svg");
    const rungs = [...svg.querySelectorAll(".l-rung")];
    const state = { shown: first.shown, base: first.base };
    const known = (location.hash.match(new RegExp(`[#&]${address}=(\\d+)\\.(\\d+)`)) ?? []).slice(1).map(Number);
    if (known.length === 2 && onPage() && known.every((i) => i < rows.length)) [state.shown, state.base] = known;
    const side = root.querySelector(".w-side");
    side.hidden = false;
    const how = side.appendChild(document.createElement("p"));
    how.textContent = "Point at a rung to compare it with the broken line. Choose a rung, and the line moves there.";
    const live = side.appendChild(document.createElement("p"));
    live.setAttribute("role", "status");
    live.className = "l-live";
    svg.setAttribute("role", "group");

    function words() {
      const [one, other] = [rows[state.shown], rows[state.base]];
      if (state.shown === state.base) return [`${one.name}: ${one.value.toFixed(4)}`, "the rung to compare with"];
      const begin = `${one.name} against ${other.name}:`;
      const pair = pairs[state.shown][state.base];
      if (!pair) return [begin, `${signed(one.value - other.value)}, interval not known`];
      const [value, low, high] = pair;
      const tends = one.sure && other.sure ? "" : "tends to be ";
      const verdict = low > 0 ? `${tends}above` : high < 0 ? `${tends}below` : "not to be told apart";
      return [begin, `${signed(value)} [${signed(low)}, ${signed(high)}], ${verdict}`];
    }

    function update(aloud) {
      const said = words();
      svg.querySelectorAll(".l-says").forEach((line, n) => {
        line.textContent = cut(said[n], 62);
        line.removeAttribute("textLength");
        if (said[n].length > 44) Object.entries({ textLength: 354, lengthAdjust: "spacingAndGlyphs" }).forEach(([k, v]) => line.setAttribute(k, v));
      });
      rungs.forEach((rung, i) => {
        rung.classList.toggle("l-shown", i === state.shown);
        rung.setAttribute("aria-pressed", i === state.base);
      });
      const x = LEFT + ((RIGHT - LEFT) * (rows[state.base].value - low)) / (top - low);
      svg.querySelector(".l-base").setAttribute("d", `M${x.toFixed(1)} 2V${28 * rows.length + 4}`);
      svg.setAttribute("aria-label", said.join(" "));
      if (aloud) live.textContent = said.join(" ");
      root.dataset.said = JSON.stringify(said);
    }

    rungs.forEach((rung, i) => {
      const { name, value } = rows[i];
      rung.setAttribute("role", "button");
      rung.setAttribute("tabindex", "0");
      rung.setAttribute("aria-label", `${name}, ${value.toFixed(4)}; choose it to compare with`);
      const look = () => { state.shown = i; update(false); };
      const choose = () => {
        state.base = i;
        update(true);
        if (onPage()) history.replaceState(null, "", `#${address}=${state.shown}.${state.base}`);
      };
      rung.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") look(); });
      rung.addEventListener("focus", () => { state.shown = i; update(true); });
      rung.addEventListener("click", choose);
      rung.addEventListener("keydown", (event) => {
        const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
        if (step) (rungs[i + step] ?? rung).focus();
        else if (event.key === "Enter" || event.key === " ") choose();
        else return;
        event.preventDefault();
      });
    });
    svg.addEventListener("pointerleave", () => {
      if (svg.contains(document.activeElement)) return;
      if (state.base === first.base) { state.shown = first.shown; update(false); }
    });
    update(false);
  });
})();
