/* The same symbol in the same colour: in formulas, in code, in the widgets. Pointing at one, or pressing its word under
   the title, lights the others. book/symbols.py says which symbols a page has. */
(() => {
  const LETTERS = { q: "1D45E", k: "1D458", v: "1D463", w: "1D464", s: "1D460", z: "1D467", p: "1D45D", W: "1D44A", Q: "1D444", K: "1D43E", V: "1D449" };

  /* "q": that letter, with an index or without; "k_": only with an index; "W_Q": with that index. */
  function inFormulas(role, wanted) {
    const forms = wanted.map((form) => form.split("_"));
    const letter = (node, name) => node?.dataset.mmlNode === "mi" && node.querySelector("[data-c]")?.dataset.c === LETTERS[name];
    document.querySelectorAll('mjx-container g[data-mml-node="mi"]').forEach((node) => {
      const outer = node.parentNode;
      const based = ["msub", "msubsup", "msup"].includes(outer?.dataset?.mmlNode) && outer.firstElementChild === node;
      const indexed = based && outer.dataset.mmlNode !== "msup";
      const fits = forms.some(([name, index]) => letter(node, name) && (index === undefined || (indexed &&
        (index === "" || letter(outer.children[1], index) || letter(outer.children[1]?.querySelector('[data-mml-node="mi"]'), index)))));
      if (fits) (based ? outer : node).classList.add("sym", `sym-${role}`);
    });
  }

  function inCode(role, pattern) {
    const whole = new RegExp(`^(?:${pattern})$`);
    document.querySelectorAll("div.highlight span.n, div.highlight span.nf, p code .pre, li code .pre, td code .pre").forEach((word) => {
      const text = word.textContent;
      const method = word.previousSibling?.textContent === "." && ["keys", "values"].includes(text);
      if (whole.test(text) && !method && !word.closest("a, .widget")) word.classList.add("sym", `sym-${role}`);
    });
  }

  /* In widgets and in drawings by hand (book/figures.py: picture) a role has its colour. */
  const DRAWN = {
    query: '.w-query, .q, [fill="var(--f-blue)"]', key: '.w-key, .k, [fill="var(--f-orange)"]',
    value: '.w-value, .v, [fill="var(--f-green)"]', weight: '.w-weight, .w, [fill="var(--f-grey)"]',
  };
  function start() {
    const legend = document.querySelector("nav.symbols");
    if (!legend) return;
    const article = document.querySelector("article");
    const roles = JSON.parse(legend.dataset.symbols);
    Object.entries(roles).forEach(([role, { formula, code }]) => { inFormulas(role, formula); inCode(role, code); });
    const buttons = [...legend.querySelectorAll("button")];
    let held = "";
    const light = (role) => { if (role) article.dataset.lit = role; else delete article.dataset.lit; };
    const roleOf = (target) => {
      const found = target.closest?.(".sym");
      if (found) return Object.keys(roles).find((role) => found.classList.contains(`sym-${role}`));
      return Object.keys(roles).find((role) => DRAWN[role] && target.closest?.(".widget, .drawn-box") && target.matches(DRAWN[role]));
    };
    buttons.forEach((button) => {
      button.disabled = false;
      button.addEventListener("click", () => {
        held = held === button.dataset.role ? "" : button.dataset.role;
        buttons.forEach((other) => other.setAttribute("aria-pressed", other.dataset.role === held));
        light(held);
      });
      button.addEventListener("focus", () => light(button.dataset.role));
      button.addEventListener("blur", () => light(held));
    });
    article.addEventListener("pointerover", (event) => {
      light(event.target.closest("nav.symbols button")?.dataset.role || roleOf(event.target) || held);
    });
    article.addEventListener("pointerleave", () => light(held));
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !held) return;
      held = "";
      buttons.forEach((button) => button.setAttribute("aria-pressed", "false"));
      light("");
    });
  }
  window.addEventListener("load", () => {
    const ready = window.MathJax?.startup?.promise;
    if (ready) ready.then(start); else start();
  });
})();
