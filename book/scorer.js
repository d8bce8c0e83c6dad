/* The order of search results: what explains a word stands above what merely uses it. Sphinx asks it for each result. */
const asked = () => (new URLSearchParams(window.location.search).get("q") ?? "").trim().toLowerCase();
var Scorer = {
  score: ([docname, title, anchor, descr, score, filename]) => {
    if (asked() && title.toLowerCase().includes(asked()) && !anchor.startsWith("#attncore.")) score += 10;
    if (asked().split(/\s+/).every((word) => title.toLowerCase().includes(word))) score += 1; // in whatever order
    if (/^book\/\d\d_/.test(docname)) return score + 12; // a chapter, above all when the word is in a heading
    if (anchor.startsWith("#term-")) return Math.min(score, 24); // the glossary's entry comes next
    if (docname.startsWith("book/api/") && !anchor) return score - 8; // a page of the module has every word somewhere
    return score;
  },
  objNameMatch: 15, // with the 5 of a function or class: above a chapter that uses the name
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
