/* Menus over a list, a button that copies code, and pictures that a click enlarges.
   Without it all of the list shows, and a click on a picture leads to its file. */
"use strict";

function bookMake(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// <div data-menus="paper verdict" data-things="statements">: of what lies in it, each
// element with data-paper is one; a value may hold several, between semicolons.
function bookMenus(list) {
  const names = list.dataset.menus.split(" ");
  const items = [...list.querySelectorAll(`[data-${names[0]}]`)];
  const values = (item, name) =>
    item.getAttribute(`data-${name}`).split("; ").filter(Boolean);
  const status = bookMake("output", {});
  const word = bookMake("input", { type: "search" });
  const menus = names.map((name) => {
    const known = [...new Set(items.flatMap((item) => values(item, name)))];
    const select = bookMake("select", {}, bookMake("option", { value: "" }, "all"));
    if (name !== "paper") known.sort();
    select.append(...known.map((value) => bookMake("option", { value }, value)));
    const asked = new URLSearchParams(location.search).get(name);
    if (known.includes(asked)) select.value = asked;
    select.addEventListener("change", filter);
    return { name, select };
  });
  const labelled = menus.map(({ name, select }) =>
    bookMake("label", {}, name.replaceAll("-", " "), select),
  );
  word.addEventListener("input", filter);
  const bar = bookMake("div", { class: "book-menus" }, ...labelled);
  bar.append(bookMake("label", {}, "word", word), status);
  list.prepend(bar);

  function filter() {
    const wanted = word.value.trim().toLowerCase();
    let shown = 0;
    for (const item of items) {
      const fits = menus.every(
        ({ name, select }) =>
          !select.value || values(item, name).includes(select.value),
      );
      item.hidden = !(fits && item.textContent.toLowerCase().includes(wanted));
      shown += !item.hidden;
    }
    status.textContent = `${shown} of ${items.length} ${list.dataset.things}`;
  }
  filter();
}

function bookCopy(code) {
  const button = bookMake("button", { type: "button", class: "book-copy" }, "Copy");
  button.addEventListener("click", async () => {
    const text = code.querySelector("pre").textContent;
    const done = await navigator.clipboard?.writeText(text).then(
      () => true,
      () => false,
    );
    button.textContent = done ? "Copied" : "Press Ctrl+C";
    if (!done) getSelection().selectAllChildren(code.querySelector("pre"));
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  code.append(button);
}

// A click on a picture, or Enter, shows it large above its caption; Escape, or a click,
// closes it, and the browser puts the focus back.
const bookLarge = bookMake("dialog", { class: "book-large" });
bookLarge.addEventListener("click", () => bookLarge.close());
document.body.append(bookLarge);

function bookEnlarge(event) {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return; // another tab
  event.preventDefault();
  const link = event.currentTarget;
  const { alt } = link.firstElementChild;
  const caption = link.parentElement.querySelector("figcaption").cloneNode(true);
  caption.querySelector(".headerlink")?.remove();
  const close = bookMake("button", { type: "button" }, "Close");
  const picture = bookMake("img", { src: link.href, alt });
  bookLarge.replaceChildren(close, bookMake("figure", {}, picture, caption));
  bookLarge.setAttribute("aria-label", alt);
  link.focus(); // some browsers give it to buttons only
  bookLarge.showModal();
}

document.querySelectorAll("figure > a.image-reference").forEach((link) => {
  link.addEventListener("click", bookEnlarge);
});
document.querySelectorAll("[data-menus]").forEach(bookMenus);
document
  .querySelectorAll(".cell_input div.highlight, .highlight-python > div.highlight")
  .forEach(bookCopy);

// What scrolls sideways can be scrolled with the keyboard, too.
const bookWide = document.querySelectorAll(
  ".bd-article :is(.displaymath, .longmath, table)",
);
function bookScrolls() {
  for (const wide of bookWide) {
    if (wide.scrollWidth > wide.clientWidth && wide.clientWidth) wide.tabIndex = 0;
    else wide.removeAttribute("tabindex");
  }
}
bookScrolls();
addEventListener("resize", bookScrolls);
