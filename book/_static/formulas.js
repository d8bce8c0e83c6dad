/* A formula that is wider than the screen scrolls; so that a keyboard can scroll it, the Tab key has to reach it. */
window.addEventListener("load", () => {
  const reach = () =>
    document.querySelectorAll("mjx-container[display]").forEach((formula) => {
      if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
      else formula.removeAttribute("tabindex");
    });
  window.MathJax?.startup?.promise?.then(reach);
  window.addEventListener("resize", reach);
});
