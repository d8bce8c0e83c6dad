/* What the page of the search adds to each result: a sentence or two around what was found, from a text that lies in
   the build (excerpts.js), and a link that leads to the right section and brings the searched words along. */
(() => {
  const AROUND = 110; // characters before and after
  const query = (new URLSearchParams(location.search).get("q") ?? "").trim();
  const words = splitQuery(query).filter((word) => !stopwords.includes(word.toLowerCase()) || /[^\x00-\x7f]/.test(word));
  const stems = words.map((word) => {
    const stem = /^\w{4,}$/.test(word) ? word.toLowerCase().replace(/(?:ies|es|s|ing|ed|ion)$/, "") : word.toLowerCase();
    return stem.length < 3 ? word.toLowerCase() : stem;
  });

  /* How many of the words a text has, and where the first of them stands: all together, if they do anywhere, whether
     a space, a hyphen or an underscore joins them. */
  const joined = (text) => text.toLowerCase().replace(/[-_]/g, " ");
  function held(text) {
    const lower = text.toLowerCase();
    const whole = joined(text).indexOf(joined(query));
    const places = stems.map((stem) => lower.indexOf(stem)).filter((place) => place >= 0);
    return { score: (whole >= 0 ? 100 : 0) + places.length, place: whole >= 0 ? whole : Math.min(...places) };
  }

  function excerpt(text, place) {
    const from = Math.max(0, text.lastIndexOf(" ", Math.max(0, place - AROUND)) + 1);
    const to = text.indexOf(" ", place + AROUND);
    const part = text.slice(from > 1 ? from : 0, to < 0 ? undefined : to);
    const box = document.createElement("p");
    box.className = "context";
    const safe = stems.map((stem) => stem.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    const split = `${from > 1 ? "… " : ""}${part}${to < 0 ? "" : " …"}`.split(new RegExp(`((?:${safe.join("|")})\\w*)`, "gi"));
    box.append(...split.map((piece, i) => {
      if (i % 2 === 0) return piece;
      const mark = document.createElement("mark");
      mark.textContent = piece;
      return mark;
    }));
    return box;
  }

  function add(item) {
    const link = item.querySelector("a");
    if (!link || item.querySelector(".context")) return;
    const root = new URL(document.documentElement.dataset.content_root, location.href);
    const url = new URL(link.getAttribute("href"), location.href);
    const name = decodeURI(url.pathname.slice(root.pathname.length)).replace(/\.html$/, "");
    const anchor = decodeURIComponent(url.hash.slice(1));
    const texts = BOOK_TEXTS[name] ?? [];
    const here = texts.find(([id]) => anchor && id === anchor);
    const best = here ?? texts.map((part) => [held(part[1]).score, part]).sort((a, b) => b[0] - a[0])[0]?.[1];
    if (best) {
      const { score, place } = held(best[1]);
      item.append(excerpt(best[1], score ? place : 0));
      if (!url.hash && best !== texts[0] && score) url.hash = best[0];
    }
    url.searchParams.set("highlight", stems.join(" "));
    link.href = url.href;
    const others = [...document.querySelectorAll("#search-results li a")].filter((other) => other !== link);
    if (others.some((other) => other.href === link.href)) item.hidden = true; // the same place, found in another way
  }

  if (query) {
    new MutationObserver((changes) => changes.forEach((change) => change.addedNodes.forEach((node) => {
      if (node.nodeName === "LI") add(node);
    }))).observe(document.getElementById("search-results"), { childList: true, subtree: true });
  }
})();
