// Chapter 11: the claims.
"use strict";

{
  const { make } = Live;

  function menu(text, options, listener) {
    const rows = options.map((label) => make("option", { value: label }, label));
    const select = make("select", {}, make("option", { value: "" }, "all"), ...rows);
    select.addEventListener("change", listener);
    return { box: make("label", {}, `${text} `, select), input: select };
  }

  function claims(stage) {
    const table = stage.parentElement.querySelector("table");
    const rows = [...table.tBodies[0].rows];
    const values = (name) => [...new Set(rows.map((row) => row.dataset[name]))];
    const status = make("output", { class: "live-status" });
    const menus = {
      paper: menu("Paper", values("paper"), filter),
      verdict: menu("Verdict", values("verdict"), filter),
      chapter: menu("Chapter", values("chapter").sort(), filter),
    };
    const word = make("input", { type: "search", oninput: filter });
    stage.append(
      make(
        "div",
        { class: "live-menus" },
        ...Object.values(menus).map(({ box }) => box),
        make("label", {}, "Word ", word),
      ),
      status,
    );

    function filter() {
      const wanted = word.value.trim().toLowerCase();
      let shown = 0;
      for (const row of rows) {
        const fits = Object.entries(menus).every(
          ([name, { input }]) => !input.value || row.dataset[name] === input.value,
        );
        row.hidden = !(fits && row.textContent.toLowerCase().includes(wanted));
        shown += !row.hidden;
      }
      status.textContent = `${shown} of ${rows.length} statements`;
    }
    filter();
    return { rows, keep: true };
  }

  Live.add("claims", claims);
}
