"use strict";
// Tables sort by a click on a heading; pictures open large. Without this script everything is there, only unsorted.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const order = (row) => row.cells[column].dataset.order;
      const numbers = [...body.rows].every((row) => !isNaN(order(row)));
      const compare = (a, b) => {
        const [x, y] = [order(a), order(b)];
        if (x === "" || y === "") return (x === "") - (y === ""); // what is missing stays at the end
        const sign = numbers ? x - y : x.localeCompare(y, undefined, { numeric: true });
        return down ? -sign : sign;
      };
      body.append(...[...body.rows].sort(compare));
    });
  });
}

const dialog = document.createElement("dialog");
dialog.setAttribute("aria-label", "Picture");
dialog.addEventListener("click", () => dialog.close());
document.body.append(dialog);
for (const picture of document.querySelectorAll(".card img")) {
  const open = () => {
    const large = new Image();
    large.src = picture.src;
    large.alt = picture.alt;
    const words = document.createElement("p");
    words.textContent = picture.alt;
    dialog.replaceChildren(large, words);
    dialog.showModal();
  };
  picture.classList.add("zooms");
  picture.tabIndex = 0;
  picture.setAttribute("role", "button");
  picture.addEventListener("click", open);
  picture.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      open();
    }
  });
}
