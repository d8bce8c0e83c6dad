/* The attention explorer: redraws what book/drawing.py has drawn. One copy stands in every output, so that it
   works in Jupyter, in Colab and on a page from disk; all numbers are in the output, none is computed here. */
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const named = (labels, state) => (Array.isArray(labels[0]) ? labels[state[0]] : labels);
  const shown = (value, digits) => (Object.is(value, -0) ? 0 : value).toFixed(digits);
  const short = (name, most) => (name.length > most ? name.slice(0, most - 1) + "…" : name);
  const letters = ({ letters, left }) => Math.min(letters, Math.floor((left - 8) / 8)); // that have room
  const lists = ({ labels }) => (Array.isArray(labels[0]) ? labels : [labels]);
  const single = (control) => lists(control).every((list) => list.length < 2); // there is nothing to choose
  const set = (node, values) => Object.entries(values).forEach(([key, value]) => node.setAttribute(key, value));

  const draw = {
    bars(panel, svg, values, names) {
      const { left, width, low, high } = panel;
      const place = (value) => left + ((value - low) / (high - low)) * width;
      svg.querySelectorAll("g").forEach((row, i) => {
        const there = i < names.length;
        row.style.display = there ? "" : "none";
        if (!there) return;
        const [name, number] = row.querySelectorAll("text");
        name.textContent = short(names[i], letters(panel));
        number.textContent = shown(values[i], panel.digits);
        const [from, to] = [place(Math.min(values[i], 0)), place(Math.max(values[i], 0))];
        set(row.querySelector("rect"), { x: from, width: to - from, class: values[i] < 0 ? "ac-less" : "ac-more" });
        set(number, { x: to + 5 });
      });
      const order = names.map((_, i) => i).sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]) || a - b);
      return order.slice(0, 3).map((i) => `${names[i]} ${shown(values[i], panel.digits)}`).join(", ");
    },
    lines(panel, svg, values, names, state) {
      const { left, width, top, height } = panel;
      const [low, high] = [Math.min(...values.flat()), Math.max(...values.flat())];
      const x = (i, n) => left + (n < 2 ? 0.5 : i / (n - 1)) * width;
      const y = (value) => top + height * (1 - (value - low) / (high - low || 1));
      const at = state[panel.at];
      svg.querySelectorAll("polyline").forEach((line, i) => {
        set(line, { points: values[i].map((v, j) => `${x(j, panel.steps)},${y(v)}`).join(" ") });
      });
      svg.querySelectorAll("circle").forEach((dot, i) => {
        const step = Math.min(at, values[i].length - 1);
        set(dot, { cx: x(step, panel.steps), cy: y(values[i][step]) });
      });
      const [most, least] = svg.querySelectorAll(".ac-number");
      most.textContent = shown(high, panel.digits);
      least.textContent = shown(low, panel.digits);
      const last = (i) => shown(values[i][Math.min(at, values[i].length - 1)], panel.digits);
      return names.map((name, i) => `${name} ${last(i)}`).join(", ");
    },
  };

  function mount(root) {
    const { controls, panels } = JSON.parse(root.querySelector("script[type='application/json']").textContent);
    const state = controls.map((control) => control.start);
    const box = root.querySelector(".ac-controls");
    const inputs = controls.map((control, c) => field(control, c, state, box, update));
    box.hidden = !box.children.length;

    function update() {
      controls.forEach((control, c) => inputs[c](named(control.labels, state)));
      const told = controls.map((control, c) => `${control.name} ${named(control.labels, state)[state[c]]}`);
      const words = told.filter((_, c) => !single(controls[c]));
      root.querySelectorAll(".ac-panel").forEach((place, p) => {
        const panel = panels[p];
        const values = panel.by.reduce((part, c) => part[state[c]], panel.values);
        const said = draw[panel.kind](panel, place.querySelector("svg"), values, named(panel.names, state), state);
        place.querySelector(".ac-said").textContent = `${panel.says}: ${said}.`;
        place.querySelector("svg").setAttribute("aria-label", `${panel.title}. ${panel.says}: ${said}.`);
      });
      root.querySelector(".ac-state").textContent = words.join(" · ");
    }
    update();
  }

  /* A control as the browser has it, so that the keyboard and a screen reader know it. Returns what renews it. */
  function field(control, c, state, box, update) {
    if (single(control)) return () => {};
    let chosen = state[c];
    const show = (i) => { if (state[c] !== i) { state[c] = i; update(); } };
    const choose = (i) => { chosen = i; show(i); };
    const keep = (labels) => {
      chosen = Math.min(chosen, labels.length - 1);
      state[c] = Math.min(state[c], labels.length - 1);
    };
    if (control.kind === "point") {
      const group = box.appendChild(document.createElement("fieldset"));
      group.appendChild(document.createElement("legend")).textContent = control.name;
      const name = `ac-${document.querySelectorAll(".attncore-explorer input").length}-${c}`;
      const size = Math.max(...lists(control).map((list) => list.length));
      const rows = Array.from({ length: size }, (_, i) => {
        const label = group.appendChild(document.createElement("label"));
        const input = label.appendChild(document.createElement("input"));
        set(input, { type: "radio", name });
        input.addEventListener("change", () => choose(i));
        label.addEventListener("mouseenter", () => show(i)); // a look; a click is what chooses
        return [label, input, label.appendChild(document.createElement("span"))];
      });
      group.addEventListener("mouseleave", () => show(chosen));
      return (labels) => {
        keep(labels);
        rows.forEach(([label, input, text], i) => {
          label.hidden = i >= labels.length;
          label.className = i === state[c] ? "ac-shown" : "";
          text.textContent = labels[i] ?? "";
          input.checked = i === chosen;
        });
      };
    }
    const label = box.appendChild(document.createElement("label"));
    label.appendChild(document.createElement("span")).textContent = control.name;
    const input = label.appendChild(document.createElement(control.kind === "slide" ? "input" : "select"));
    const told = control.kind === "slide" ? label.appendChild(document.createElement("output")) : null;
    input.addEventListener("input", () => choose(Number(input.value)));
    return (labels) => {
      keep(labels);
      if (told) {
        set(input, { type: "range", min: 0, max: labels.length - 1, step: 1, "aria-valuetext": labels[state[c]] });
        told.textContent = labels[state[c]];
      } else if ([...input.options].map((option) => option.text).join("\n") !== labels.join("\n")) {
        input.replaceChildren(...labels.map((text, i) => new Option(text, i)));
      }
      input.value = state[c];
    };
  }

  document.querySelectorAll(".attncore-explorer:not([data-ready])").forEach((root) => {
    root.dataset.ready = "";
    mount(root);
  });
})();
