(function () {
  var root = document.documentElement, button = document.getElementById("theme"), kept = null;
  try { kept = localStorage.getItem("paperworks-theme"); } catch (e) { kept = null; }
  var system = window.matchMedia("(prefers-color-scheme: dark)");
  function show(theme) {
    root.setAttribute("data-theme", theme);
    if (button) { button.setAttribute("aria-pressed", String(theme === "dark")); }
  }
  show(kept || (system.matches ? "dark" : "light"));
  system.addEventListener("change", function (event) { if (!kept) { show(event.matches ? "dark" : "light"); } });
  if (button) {
    button.addEventListener("click", function () {
      kept = root.getAttribute("data-theme") === "dark" ? "light" : "dark";
      try { localStorage.setItem("paperworks-theme", kept); } catch (e) { /* private window */ }
      show(kept);
    });
  }
  var search = document.getElementById("search");
  if (!search) { return; }
  var cards = Array.prototype.slice.call(document.querySelectorAll("[data-field]")), field = "";
  var filters = Array.prototype.slice.call(document.querySelectorAll("[data-filter]")), told = document.getElementById("told");
  function sift() {
    var words = search.value.toLowerCase().split(/\s+/).filter(Boolean), shown = 0;
    cards.forEach(function (card) {
      var text = card.getAttribute("data-text");
      var fits = (!field || card.getAttribute("data-field") === field) && words.every(function (word) { return text.indexOf(word) >= 0; });
      card.hidden = !fits;
      shown += fits ? 1 : 0;
    });
    told.textContent = shown === cards.length ? cards.length + " papers" : shown + " of " + cards.length + " papers";
  }
  filters.forEach(function (filter) {
    filter.addEventListener("click", function () {
      field = filter.getAttribute("data-filter");
      filters.forEach(function (each) { each.setAttribute("aria-pressed", String(each === filter)); });
      sift();
    });
  });
  search.addEventListener("input", sift);
  document.addEventListener("keydown", function (event) {
    if (event.key === "/" && document.activeElement !== search) { event.preventDefault(); search.focus(); }
    if (event.key === "Escape" && document.activeElement === search) { search.value = ""; sift(); search.blur(); }
  });
  sift();
})();
