// Chapter 10: questions that lead to a method, over the bench's rows.
"use strict";

{
  const { make, steps, pick } = Live;

  function method(stage, data) {
    const kinds = [...new Set(data.tables.map((table) => table.data))];
    const status = make("output", { class: "live-status" });
    const list = make("div", { class: "live-ranks", tabindex: 0, role: "region" });
    list.setAttribute("aria-label", "Methods by their mean, the best first");
    const measureBox = make("div");
    const which = pick("Which images do you have?", kinds, measured, true);
    const many = (n) => (n ? `at most ${n.toLocaleString("en")}` : "none");
    const settings = { start: 4 };
    const budget = steps(
      "queries you can pay for an image",
      data.budgets,
      many,
      settings,
      draw,
    );
    const gradients = pick("Can you differentiate the model?", ["no", "yes"], draw);
    let measure;
    stage.append(which.box, measureBox, gradients.box, budget.box, status, list);

    function tables() {
      return data.tables.filter((table) => table.data === kinds[which.value]);
    }

    // Which measures there are depends on the images.
    function measured() {
      const names = tables().map((table) => data.meaning[table.measure]);
      measure = pick("What shall a map be good at?", names, draw, true);
      measureBox.replaceChildren(measure.box);
      draw();
    }

    function draw() {
      const table = tables()[measure.value];
      const { methods, budgets, means } = table;
      const name = (i) =>
        budgets[i]
          ? `${methods[i]}, ${budgets[i].toLocaleString("en")} queries`
          : methods[i];
      const isFloor = (i) => data.floors.includes(methods[i]);
      const kept = [...methods.keys()].filter((i) => {
        if (isFloor(i)) return true;
        return budgets[i] ? budgets[i] <= budget.value : gradients.value === 1;
      });
      kept.sort((a, b) => means[b] - means[a] || a - b);
      const place = gradients.value * data.budgets.length + budget.index;
      const decision = table.decisions[place];
      const [taken, floor, alike] = decision || [-1, -1, []];
      const on = `On ${table.images} images`;
      if (!decision) {
        status.textContent = "Nothing can be made without queries or gradients.";
      } else if (taken < 0) {
        status.textContent =
          `${on} no method that you can pay for is surely better than a map that ` +
          `knows nothing of the model${floor < 0 ? "" : ` (${name(floor)})`}.`;
      } else {
        const others = alike.filter((i) => i !== taken).length;
        status.textContent =
          `Take ${name(taken)}. ${on} ` +
          (others
            ? `${others} more cannot be told apart from the best, `
            : "it is best, ") +
          `${others ? "and this is the cheapest of them" : "alone"}.`;
      }
      const rows = kept.map((i) => {
        const words = [name(i), isFloor(i) ? " (knows nothing)" : ""];
        const cell = i === taken ? make("b", {}, ...words) : words.join("");
        return make(
          "tr",
          {},
          make("td", {}, cell),
          make("td", {}, means[i].toFixed(3)),
        );
      });
      const head = ["Method", "Mean"].map((text) => make("th", { scope: "col" }, text));
      list.replaceChildren(
        make(
          "table",
          {},
          make("thead", {}, make("tr", {}, ...head)),
          make("tbody", {}, ...rows),
        ),
      );
    }
    measured();
    return { kinds };
  }

  Live.add("method", method);
}
