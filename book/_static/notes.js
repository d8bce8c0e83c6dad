/* A term or a citation opens in place: by pointing at it, by focus, by a tap. Escape closes it; the link still leads to
   the glossary or the bibliography. The glossary's words lie in terms.js, which is loaded when first needed. */
(() => {
  const LINKS = 'article a[href*="glossary.html#term-"], article a[href*="bibliography.html#id"][title], article a[href^="#id"][title]';
  const root = document.documentElement.dataset.content_root ?? "./";
  let terms = null;
  let note = null;
  let open = null; // the link whose note is shown
  let timer = null;

  const loaded = () => terms ??= new Promise((done) => {
    const script = document.createElement("script");
    script.src = `${root}_static/terms.js`;
    script.onload = () => done(window.BOOK_TERMS ?? {});
    script.onerror = () => done({});
    document.head.append(script);
  });

  const line = (kind, words, lang) => {
    const part = document.createElement("span");
    part.className = kind;
    part.textContent = words;
    if (lang) part.lang = lang;
    return part;
  };

  async function parts(link) {
    if (link.dataset.source) return [line("note-text", link.dataset.source)];
    const found = (await loaded())[decodeURIComponent(link.hash.slice(1))];
    if (!found) return null;
    const [english, chinese, text] = found;
    return [line("note-term", english), ...(chinese ? [line("note-zh", chinese, "zh")] : []), line("note-text", text)];
  }

  function place(link) {
    const [at, own] = [link.getClientRects()[0], note.getBoundingClientRect()];
    const room = document.documentElement.clientWidth;
    const left = Math.max(8, Math.min(at.left, room - own.width - 8));
    const below = at.bottom + own.height + 8 < innerHeight || at.top < own.height + 8;
    note.style.left = `${left + scrollX}px`;
    note.style.top = `${(below ? at.bottom + 4 : at.top - own.height - 4) + scrollY}px`;
  }

  async function show(link, tapped) {
    clearTimeout(timer);
    if (open === link) return;
    const inside = await parts(link);
    if (!inside) return;
    hide();
    open = link;
    note ??= document.body.appendChild(Object.assign(document.createElement("div"), { id: "book-note", className: "note" }));
    note.setAttribute("role", "tooltip");
    note.replaceChildren(...inside);
    if (tapped) {
      const on = document.createElement("a");
      on.href = link.href;
      on.textContent = link.dataset.source ? "in the bibliography" : "in the glossary";
      note.append(on);
    }
    note.hidden = false;
    link.setAttribute("aria-describedby", "book-note");
    place(link);
  }

  function hide() {
    clearTimeout(timer);
    open?.removeAttribute("aria-describedby");
    open = null;
    if (note) note.hidden = true;
  }

  const linkAt = (event) => event.target.closest?.(".noted");
  const soon = (what, ms) => { clearTimeout(timer); timer = setTimeout(what, ms); };
  window.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(LINKS).forEach((link) => {
      link.classList.add("noted");
      if (!link.title) return;
      link.dataset.source = link.title; // or the browser would show it beside ours
      link.removeAttribute("title");
    });
    let touched = false;
    document.addEventListener("pointerdown", (event) => { touched = event.pointerType === "touch"; });
    document.addEventListener("pointerover", (event) => {
      if (event.pointerType !== "mouse") return;
      const link = linkAt(event);
      if (link) soon(() => show(link), 150);
      else if (open && event.target.closest("#book-note")) clearTimeout(timer);
      else if (open) soon(hide, 250);
      else clearTimeout(timer);
    });
    document.addEventListener("focusin", (event) => {
      const link = linkAt(event);
      if (link && !touched) show(link);
      else if (!link && open && !event.target.closest("#book-note")) hide();
    });
    document.addEventListener("click", (event) => {
      const link = linkAt(event);
      if (link && touched && open !== link) {
        event.preventDefault();
        show(link, true);
      } else if (!link && !event.target.closest("#book-note")) hide();
    }, true);
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
    window.addEventListener("resize", hide);
  });
})();
