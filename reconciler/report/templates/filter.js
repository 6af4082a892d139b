"use strict";
(() => {
  const form = document.querySelector("form.filter");
  if (!form) return;
  const query = document.getElementById("q");
  const kind = document.getElementById("kind");
  const state = document.getElementById("state");
  const shown = document.getElementById("shown");
  const main = document.getElementById("main");
  const rows = Array.from(document.querySelectorAll(".row"), (node) => ({
    node,
    kind: node.dataset.k,
    state: node.dataset.s,
    text: null,
  }));
  const groups = Array.from(document.querySelectorAll(".rows, .group"));
  const operations = rows.filter((row) => row.kind);
  let planned = 0;

  const apply = () => {
    planned = 0;
    const words = query.value.normalize("NFC").toLowerCase().split(/\s+/).filter(Boolean);
    const alike = (row) => {
      if (!words.length) return true;
      row.text ??= row.node.textContent.normalize("NFC").toLowerCase();
      return words.every((word) => row.text.includes(word));
    };
    for (const row of rows) {
      const fits = !row.kind || ((!kind.value || row.kind === kind.value) && (!state.value || row.state === state.value));
      const hide = !(fits && alike(row));
      if (row.node.hidden !== hide) row.node.hidden = hide;
    }
    for (const group of groups) group.hidden = !group.querySelector(".row:not([hidden])");
    // What is left of a list is lower than the height that is assumed of it unseen: lay it out, unless that is too much.
    main.classList.toggle("many", rows.filter((row) => !row.node.hidden).length > 1000);
    const left = operations.filter((row) => !row.node.hidden).length;
    shown.textContent = `${left} of ${operations.length} shown`;
  };
  const soon = () => {
    if (!planned) planned = setTimeout(apply, 60);
  };
  const reveal = () => {
    const target = document.getElementById(location.hash.slice(1));
    if (!target || !target.closest("[hidden]")) return;
    form.reset();
    apply();
    target.scrollIntoView();
  };

  form.hidden = false;
  form.addEventListener("input", soon);
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", reveal);
  apply();
})();
