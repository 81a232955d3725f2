// What scrolls can be reached by the keyboard, and what is a landmark has a name of its own.
function reachable() {
  for (const one of document.querySelectorAll(".md-typeset pre > code, .md-typeset__scrollwrap")) {
    if (one.scrollWidth > one.clientWidth) one.tabIndex = 0;
    else one.removeAttribute("tabindex");
  }
  document.querySelectorAll(".md-code__nav").forEach((one, at) => {
    one.setAttribute("aria-label", `code ${at + 1}`);
    for (const button of one.querySelectorAll("button")) button.setAttribute("aria-label", button.title);
  });
  document.querySelectorAll("nav.md-nav").forEach((one, at) => {
    const title = one.querySelector(":scope > .md-nav__title");
    const named = title && title.textContent.trim();
    one.removeAttribute("aria-labelledby");
    one.setAttribute("aria-label", `${named || "navigation"}, ${at + 1}`);
  });
}

document.addEventListener("DOMContentLoaded", reachable);
window.addEventListener("load", reachable);
window.addEventListener("resize", reachable);
