// Answers side by side: filters over the items in the page, of which a few are shown until more are asked for.
// Texts are anybody's, and are put in as text alone. What the short keys mean: evomerge/report/answer_rows.py.
"use strict";

customElements.define("evomerge-answers", class extends HTMLElement {
  static first = 4;
  static step = 12;
  static kinds = ["lost", "gained", "wrong", "right", "equal", "not judged"];
  static words = { equal: "equally good" };
  // What can be chosen: a name, and which items it takes, of their kind and of whether the first model is right.
  static choices = [
    ["all", () => true],
    ["lost", (kind) => kind === "lost"],
    ["gained", (kind) => kind === "gained"],
    ["wrong", (kind, right) => right === 0],
    ["right", (kind, right) => right === 1],
    ["both wrong", (kind) => kind === "wrong"],
    ["both right", (kind) => kind === "right"],
    ["equally good", (kind) => kind === "equal"],
    ["not judged", (kind) => kind === "not judged"],
  ];

  connectedCallback() {
    if (this.data) return;
    this.data = JSON.parse(this.querySelector('script[type="application/json"]').textContent);
    this.list = this.querySelector(".items");
    this.count = this.querySelector(".count");
    this.more = this.querySelector(".more");
    this.makeFilters(this.querySelector(".filters"));
    this.more.querySelector("button").addEventListener("click", () => this.show(true));
    this.filter();
  }

  // ---- filters ----

  makeFilters(form) {
    const { models, tasks, splits } = this.data;
    const option = (name, value) => Object.assign(document.createElement("option"), { textContent: name, value });
    const select = (label, options) => {
      const box = document.createElement("select");
      box.append(...options.map(([name, value]) => option(name, value)));
      const whole = document.createElement("label");
      whole.append(label, " ", box);
      if (options.length > 1) form.append(whole);
      return box;
    };
    const merges = models.map((one, place) => [one.name, place, one.merge]).filter((one) => one[2]);
    this.model = select("answers of", (merges.length ? merges : [[models[0].name, 0]]));
    const others = models.map((one, place) => [one.name, place]);
    const parents = tasks.some((task) => task.best !== null);
    const several = tasks.length > 1 ? "the best parent of each task" : "the best parent";
    this.beside = select("beside", [...(parents ? [[several, "best"]] : []), ["all", "all"], ...others, ["none", "none"]]);
    this.task = select("task", [...(tasks.length > 1 ? [["all", ""]] : []), ...tasks.map((one, place) => [one.name, place])]);
    this.split = select("items", splits.map((name, place) => [name, place]));
    const search = Object.assign(document.createElement("input"), { type: "search", placeholder: "in prompts and answers" });
    const whole = document.createElement("label");
    whole.append("text ", search);
    form.append(whole);
    this.search = search;
    this.which = document.createElement("fieldset");
    this.which.append(Object.assign(document.createElement("legend"), { textContent: "which", className: "unseen" }));
    const group = `which-${Math.random().toString(36).slice(2)}`;
    this.boxes = this.constructor.choices.map(([name], place) => {
      const box = Object.assign(document.createElement("input"), { type: "radio", name: group, value: name, checked: place === 0 });
      const chip = document.createElement("label");
      const text = document.createElement("span");
      chip.append(box, text);
      this.which.append(chip);
      return { box, chip, text };
    });
    form.append(this.which);
    form.addEventListener("submit", (event) => event.preventDefault());
    for (const box of [this.model, this.beside, this.task, this.split, this.which]) {
      box.addEventListener("change", () => this.filter());
    }
    let waiting = 0;
    search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(() => this.filter(), 120); });
    form.hidden = false;
  }

  other(row) {
    const beside = this.beside.value;
    if (beside === "none") return null;
    if (beside === "best" || beside === "all") return this.data.tasks[row.t].best;
    return Number(beside) === this.first ? null : Number(beside);
  }

  // As evomerge.analysis.answers.kind_of.
  kindOf(row) {
    const one = row.a[this.first];
    const place = this.other(row);
    const two = place === null || !row.a[place] ? one : row.a[place];
    if (!one || one.v === undefined || two.v === undefined) return "not judged";
    if (one.v !== two.v) return (one.v < two.v) === this.data.tasks[row.t].less ? "gained" : "lost";
    return one.r === undefined ? "equal" : one.r ? "right" : "wrong";
  }

  holds(row, text) {
    if (!text) return true;
    const texts = [row.q, row.g, ...(row.o || []), ...(row.w || []).map((one) => one[1])];
    for (const one of Object.values(row.a)) texts.push(one.x, one.f);
    return texts.some((one) => one !== undefined && one.toLowerCase().includes(text)) || String(row.i) === text;
  }

  filter() {
    const { rows } = this.data;
    const { kinds, choices } = this.constructor;
    this.first = Number(this.model.value);
    const text = this.search.value.trim().toLowerCase();
    const [task, split] = [this.task.value, Number(this.split.value)];
    const found = rows
      .filter((row) => row.s === split && (task === "" || row.t === Number(task)) && row.a[this.first] && this.holds(row, text))
      .map((row) => ({ row, kind: this.kindOf(row), right: row.a[this.first].r }));
    choices.forEach(([name, takes], place) => {
      const n = found.filter((one) => takes(one.kind, one.right)).length;
      const { box, chip, text: words } = this.boxes[place];
      words.textContent = `${name} ${n}`;
      chip.hidden = !n && !box.checked && name !== "lost" && name !== "gained";
    });
    const takes = choices[this.boxes.findIndex(({ box }) => box.checked)][1];
    this.found = found.filter((one) => takes(one.kind, one.right))
      .sort((a, b) => kinds.indexOf(a.kind) - kinds.indexOf(b.kind) || a.row.t - b.row.t || a.row.i - b.row.i);
    this.shown = 0;
    this.list.replaceChildren();
    this.show(false);
  }

  show(focus) {
    const next = this.found.slice(this.shown, this.shown + (this.shown ? this.constructor.step : this.constructor.first));
    const made = next.map((one) => this.item(one));
    this.list.append(...made);
    this.shown += next.length;
    const all = this.found.length;
    const left = this.data.left[Number(this.split.value)];
    this.count.textContent = (all ? `${this.shown} of ${all} items` : "No such items")
      + (left ? `; ${left} more items are not on this page` : "");
    this.more.firstElementChild.textContent = `Show ${Math.min(this.constructor.step, all - this.shown)} more`;
    this.more.hidden = this.shown >= all;
    if (focus && made.length) { made[0].tabIndex = -1; made[0].focus({ preventScroll: true }); }
  }

  // ---- items ----

  make(name, className, text) {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  item({ row, kind }) {
    const { tasks, splits, models } = this.data;
    const item = this.make("li", `item ${kind.replace(" ", "-")}`);
    const head = this.make("h4", "", `${tasks[row.t].name}, ${splits[row.s]} item ${row.i} `);
    head.append(this.make("span", "kind", this.constructor.words[kind] || kind));
    item.append(head);
    if (row.q !== undefined) item.append(this.prompt(row));
    if (row.g !== undefined) item.append(this.told("target", "target", row.g));
    const sides = this.make("div", "sides");
    for (const place of this.columns(row)) {
      if (row.a[place]) sides.append(this.side(models[place].name, row.a[place], row.o));
    }
    item.append(sides);
    return item;
  }

  columns(row) {
    if (this.beside.value === "all") {
      return [this.first, ...this.data.models.keys()].filter((place, at, all) => all.indexOf(place) === at);
    }
    const other = this.other(row);
    return other === null ? [this.first] : [this.first, other];
  }

  prompt(row) {
    const before = [...(row.b === undefined ? [] : this.data.beginnings[row.b]), ...(row.w || [])];
    if (!before.length && row.q.length <= 280 && row.q.split("\n").length <= 4) return this.make("p", "prompt", row.q);
    const details = this.make("details", "prompt");
    const summary = this.make("summary");
    summary.append(this.make("span", "folded", row.q));
    details.append(summary);
    for (const [who, said] of before) {
      const turn = this.make("p", "turn");
      if (who) turn.append(this.make("b", "", who), " ");
      turn.append(said);
      details.append(turn);
    }
    return details;
  }

  told(className, what, text) {
    const line = this.make("p", className);
    line.append(this.make("span", "what", what), " ", text);
    return line;
  }

  side(name, answer, options) {
    const mark = { 1: "right", 0: "wrong" }[answer.r] || "";
    const side = this.make("div", mark ? `side is-${mark}` : "side");
    const head = this.make("h5", "", `${name} `);
    const plain = answer.v === undefined || answer.v === 0 || (answer.r === 1 && answer.v === 1);
    head.append(this.make("span", "mark", `${mark}${plain ? "" : ` ${Number(answer.v.toPrecision(4))}`}`.trim()));
    side.append(head);
    if (answer.p) side.append(this.options(answer, options));
    else side.append(this.make("p", "said", answer.x || "(empty)"));
    if (answer.f !== undefined) side.append(this.told("made", "taken as", answer.f));
    return side;
  }

  options(answer, options) {
    const list = this.make("ul", "options");
    answer.p.forEach((share, place) => {
      const line = this.make("li", place === answer.c ? "chosen" : "");
      line.append(this.make("span", "share", `${(100 * share).toFixed(1)} %`), " ", options[place]);
      if (place === answer.c) line.append(" ", this.make("span", "unseen", "(chosen)"));
      list.append(line);
    });
    return list;
  }
});
