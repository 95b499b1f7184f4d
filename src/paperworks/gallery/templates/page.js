"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const stored = {
    get() { try { return localStorage.getItem("paperworks-theme"); } catch { return null; } },
    set(value) { try { localStorage.setItem("paperworks-theme", value); } catch { /* a page from a folder may not store */ } },
  };
  const follow = (theme) => { if (theme === "dark" || theme === "light") root.dataset.theme = theme; };
  follow(stored.get());
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;

  addEventListener("DOMContentLoaded", () => {
    const theme = document.querySelector(".theme");
    const show = () => theme.setAttribute("aria-pressed", String(isDark()));
    theme.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      stored.set(root.dataset.theme);
      show();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
    addEventListener("storage", (event) => {
      if (event.key === "paperworks-theme") { follow(event.newValue); show(); }
    });
    show();

    const search = document.querySelector("#search");
    if (!search) return;
    const list = document.querySelector(".cards");
    const cards = [...list.children];
    const buttons = [...document.querySelectorAll(".filters button")];
    const order = document.querySelector("#order");
    const told = document.querySelector("#told");
    let field = "";

    const update = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      for (const card of cards) {
        const fits = (!field || card.dataset.field === field) && words.every((word) => card.dataset.words.includes(word));
        card.hidden = !fits;
        count += fits;
      }
      told.textContent = count === 0 ? "No paper fits. Remove a word or the filter." : `${count} of ${cards.length} papers`;
    };
    const sort = () => {
      const by = order.value;
      const text = (a, b) => a.dataset.title.localeCompare(b.dataset.title);
      const compare = {
        field: (a, b) => a.dataset.field.localeCompare(b.dataset.field) || text(a, b),
        title: text,
        year: (a, b) => b.dataset.year - a.dataset.year || text(a, b),
        verdict: (a, b) => a.dataset.rank - b.dataset.rank || text(a, b),
      }[by];
      list.append(...cards.sort(compare));
    };
    for (const button of buttons) {
      button.addEventListener("click", () => {
        field = button.dataset.field;
        for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
        update();
      });
    }
    search.addEventListener("input", update);
    search.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { search.value = ""; update(); }
    });
    order.addEventListener("change", sort);
    addEventListener("keydown", (event) => {
      const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
      if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
        event.preventDefault();
        search.focus();
      }
    });
    sort();
    update();
  });
})();
