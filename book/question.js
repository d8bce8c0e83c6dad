/* A question that answers in the page: by choosing, or by a number. book/questions.py writes it. */
(() => {
  const add = (place, tag, values = {}, text = "") => {
    const node = place.appendChild(document.createElement(tag));
    Object.entries(values).forEach(([key, value]) => node.setAttribute(key, value));
    if (text) node.textContent = text;
    return node;
  };

  /* What a reader may write: 0.5, ,5, 1/2, -3, 50 %, 1,682 for a thousand. */
  function read(text, unit) {
    let words = text.trim().replace(/[−–]/g, "-").replace(/\s/g, "");
    if (unit && words.endsWith(unit.replace(/\s/g, ""))) words = words.slice(0, -unit.replace(/\s/g, "").length);
    if (/^-?\d{1,3}(,\d{3})+(\.\d*)?$/.test(words)) words = words.replace(/,/g, "");
    words = words.replace(",", ".");
    const parts = words.split("/");
    const plain = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i;
    if (parts.length > 2 || !parts.every((part) => plain.test(part))) return NaN;
    return parts.length === 2 ? Number(parts[0]) / Number(parts[1]) : Number(parts[0]);
  }

  function choose(root, { choices, why }, say) {
    const marks = [...root.querySelectorAll(".q-choices li")].map((item, i) => {
      const [words, right, hint] = choices[i];
      item.replaceChildren();
      const button = add(item, "button", { type: "button", "aria-pressed": "false" });
      button.innerHTML = words;
      button.addEventListener("click", () => {
        marks.forEach((other) => other.setAttribute("aria-pressed", other === button));
        button.className = right ? "q-yes" : "q-no";
        say(right, right ? [hint, why].filter(Boolean).join(" ") : hint);
      });
      return button;
    });
  }

  function type(root, { number, tolerance, slips, unit, why }, say) {
    const form = document.createElement("form");
    root.querySelector(".q-says").before(form);
    const label = add(form, "label");
    add(label, "span", {}, "Your answer");
    const input = add(label, "input", { type: "text", inputmode: "decimal", autocomplete: "off" });
    if (unit) add(label, "span", {}, unit);
    add(form, "button", { type: "submit" }, "Check");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const given = read(input.value, unit);
      const near = (a, b) => Math.abs(a - b) <= tolerance * (1 + 1e-9) + 1e-12;
      const slip = slips.find(([wrong]) => near(given, wrong));
      if (Number.isNaN(given)) say(null, "Write a number, such as 0.25, 1/4 or -3.");
      else if (near(given, number)) say(true, why);
      else if (slip) say(false, slip[1]);
      else if (given === -number) say(false, "The size is right; look at the sign.");
      else say(false, given > number ? "That is too large." : "That is too small.");
    });
  }

  document.querySelectorAll(".question:not([data-ready])").forEach((root) => {
    root.dataset.ready = "";
    const data = JSON.parse(root.querySelector("script[type='application/json']").textContent);
    const says = root.querySelector(".q-says");
    const say = (right, words) => {
      says.className = `q-says ${right === null ? "" : right ? "q-yes" : "q-no"}`;
      says.innerHTML = (right === null ? "" : right ? "✓ Right. " : "✗ Not so. ") + words;
      root.dataset.right = right;
    };
    (data.choices ? choose : type)(root, data, say);
  });
})();
