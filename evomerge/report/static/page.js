// The page: its theme, and charts that are drawn when they come near, follow the width, and answer pointer and keys.
// EVOMERGE_THEMES (style.py's configurations for Vega) stands above; vegaEmbed comes from the library of charts.
"use strict";

const evomerge = (() => {
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const near = "600px"; // how far beyond the window charts are drawn

  // ---- theme ----

  const kept = {
    // A page from the disk may have no storage: then the choice holds for as long as the page is open.
    get: () => { try { return localStorage.getItem("evomerge-theme"); } catch { return null; } },
    set: (name) => { try { localStorage.setItem("evomerge-theme", name); } catch { /* see above */ } },
  };
  const theme = () => root.dataset.theme || (dark.matches ? "dark" : "light");

  function choose(name) {
    if (name === "auto") delete root.dataset.theme;
    else root.dataset.theme = name;
    redraw();
  }

  function startThemes() {
    const chosen = kept.get() || root.dataset.theme || "auto";
    if (chosen !== "auto") root.dataset.theme = chosen;
    else delete root.dataset.theme;
    for (const input of document.querySelectorAll(".themes input")) {
      input.checked = input.value === chosen;
      input.addEventListener("change", () => { kept.set(input.value); choose(input.value); });
    }
    for (const box of document.querySelectorAll(".themes")) box.hidden = false;
    dark.addEventListener("change", redraw);
  }

  // ---- charts ----

  const charts = new Map(); // element -> {spec, made: by Vega-Embed, view, drawn: what it was drawn for, visible, width, marks, at}

  // Legends stand above charts and names beside them, so both must find room in the width.
  const column = 170;
  const columns = (element) => Math.max(1, Math.floor(element.clientWidth / column));
  const fewer = (element) => [...new Set([1, 2, 3, 6].map((by) => Math.ceil(columns(element) / by)))];
  const wanted = (element) => `${theme()} ${columns(element)}`;

  function configuration(element, name, { entries = columns(element), stacked = false } = {}) {
    const config = structuredClone(EVOMERGE_THEMES[name]);
    config.legend = { ...config.legend, columns: entries, labelLimit: column - 30 };
    if (stacked) config.legend.layout = { top: { direction: "vertical", anchor: "start" } };
    config.axis = { ...config.axis, labelLimit: Math.min(280, Math.max(150, Math.round(element.clientWidth / 3))) };
    return config;
  }

  // Whether legends end inside of the picture; how long their entries are is known when they are drawn.
  function fits(element) {
    const { right } = element.getBoundingClientRect();
    return [...element.querySelectorAll(".role-legend")].every((one) => one.getBoundingClientRect().right <= right + 1);
  }

  async function embedFitting(element, spec) {
    let made = await embed(element, spec, configuration(element, theme()));
    for (const entries of fewer(element)) {
      if (fits(element)) break;
      made.finalize();
      made = await embed(element, spec, configuration(element, theme(), { entries, stacked: true }));
    }
    return made;
  }

  async function draw(element) {
    const chart = charts.get(element);
    const target = wanted(element);
    if (chart.drawn === target || !element.clientWidth) return;
    chart.drawn = target;
    if (chart.made) hide();
    try {
      const made = await embedFitting(element, chart.spec);
      if (chart.drawn !== target) { made.finalize(); return; } // another theme was chosen meanwhile
      chart.made?.finalize();
      chart.made = made;
      chart.view = made.view;
      chart.marks = null;
      element.style.minHeight = "";
      // Layers in which nothing is shown now are no pictures that a reader of the screen should stop at.
      for (const layer of element.querySelectorAll("g.role-mark[role]:empty")) layer.removeAttribute("role");
      element.dataset.drawn = theme();
    } catch (error) {
      element.textContent = `This chart could not be drawn: ${error.message}`;
      element.classList.add("notice");
      console.error(error);
    }
  }

  function embed(element, spec, config) {
    return vegaEmbed(element, structuredClone(spec), {
      mode: "vega-lite", renderer: "svg", actions: false, defaultStyle: false, ast: true, config,
      tooltip: (view, event, item, value) => point(element, view, event, item, value),
      loader: { load: () => Promise.reject(new Error("charts load nothing")) },
    });
  }

  function redraw() {
    for (const [element, chart] of charts) if (chart.visible) draw(element);
  }

  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const chart = charts.get(target);
      if (!chart) continue;
      chart.visible = isIntersecting;
      if (isIntersecting) draw(target);
    }
  }, { rootMargin: near });

  let waiting = 0;
  const sized = new ResizeObserver((entries) => {
    // Vega listens to the window alone, and a frame changes its width with what stands beside it, too.
    let changed = false;
    for (const { target } of entries) {
      const chart = charts.get(target);
      changed ||= chart?.made && chart.width !== target.clientWidth;
      if (chart) chart.width = target.clientWidth;
    }
    if (!changed) return;
    clearTimeout(waiting);
    waiting = setTimeout(() => { window.dispatchEvent(new Event("resize")); redraw(); }, 80);
  });

  function scan(within = document) {
    for (const element of [...charts.keys()]) {
      if (element.isConnected) continue;
      charts.get(element).made?.finalize();
      charts.delete(element);
    }
    for (const element of within.querySelectorAll(".chart")) {
      if (charts.has(element)) continue;
      const data = element.parentElement.querySelector('script[type="application/json"]');
      charts.set(element, { spec: JSON.parse(data.textContent), drawn: "", visible: false });
      element.addEventListener("keydown", (event) => step(element, event));
      element.addEventListener("focus", () => { if (element.matches(":focus-visible")) step(element); });
      element.addEventListener("blur", hide);
      element.addEventListener("pointerleave", hide);
      seen.observe(element);
      sized.observe(element);
    }
    for (const button of within.querySelectorAll("button[data-save]")) {
      if (!button.dataset.ready) button.addEventListener("click", () => save(button));
      button.dataset.ready = "yes";
    }
  }

  // ---- tooltips ----

  const tip = document.createElement("div");
  tip.className = "tip";
  tip.id = "tip";
  tip.hidden = true;
  const ring = document.createElement("div");
  ring.className = "ring";

  function hide() {
    tip.hidden = true;
    ring.remove();
  }

  function entriesOf(value) {
    if (value === null || typeof value !== "object") return [["", String(value)]];
    return Object.entries(value).map(([name, one]) => [name, String(one)]);
  }

  function show(value, x, y) {
    const list = document.createElement("dl");
    for (const [name, text] of entriesOf(value)) {
      const term = document.createElement("dt");
      const description = document.createElement("dd");
      term.textContent = name; // always as text: names are anybody's
      description.textContent = text;
      list.append(term, description);
    }
    tip.replaceChildren(list);
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    const left = x + 14 + width > root.clientWidth ? x - 14 - width : x + 14;
    const top = y + 14 + height > window.innerHeight ? y - 14 - height : y + 14;
    tip.style.transform = `translate(${Math.max(8, left)}px, ${Math.max(8, top)}px)`;
  }

  // Where the group of an item stands in the picture.
  function origin(view, item) {
    let [x, y] = view.origin();
    for (let group = item.mark.group; group; group = group.mark?.group) {
      x += group.x || 0;
      y += group.y || 0;
    }
    return [x, y];
  }

  const drawnAlong = ["line", "area", "trail"]; // one shape for many items

  function point(element, view, event, item, value) {
    if (!item || value === null || value === undefined || value === "") {
      if (document.activeElement !== element || event.type !== "pointerout") hide();
      return;
    }
    if (drawnAlong.includes(item.mark.marktype)) {
      const [left] = origin(view, item);
      const at = event.clientX - element.querySelector("svg").getBoundingClientRect().left - left;
      const distance = (one) => Math.abs(one.x - at);
      value = item.mark.items.reduce((best, one) => (distance(one) < distance(best) ? one : best)).tooltip ?? value;
    }
    ring.remove();
    show(value, event.clientX, event.clientY);
  }

  // All marks that have something to say, with the middle and the size of each in the picture.
  function marksOf(view) {
    const found = [];
    const visit = (item) => {
      if (item.items) for (const one of item.items) visit(one);
      if (!item.mark || item.tooltip === null || item.tooltip === undefined || item.tooltip === "") return;
      const [x, y] = origin(view, item);
      const { bounds } = item;
      const along = drawnAlong.includes(item.mark.marktype);
      const box = along || !bounds
        ? [item.x - 4, item.y - 4, item.x + 4, item.y + 4] : [bounds.x1, bounds.y1, bounds.x2, bounds.y2];
      found.push({ value: item.tooltip, box: [box[0] + x, box[1] + y, box[2] + x, box[3] + y] });
    };
    visit(view.scenegraph().root);
    const middle = ({ box }) => [Math.round((box[0] + box[2]) / 2), Math.round((box[1] + box[3]) / 2)];
    return found.map((one) => ({ ...one, middle: middle(one) }));
  }

  function step(element, event) {
    const chart = charts.get(element);
    if (!chart.view) return;
    if (event?.key === "Escape") { hide(); return; }
    const across = { ArrowRight: 1, ArrowLeft: -1 }[event?.key];
    const down = { ArrowDown: 1, ArrowUp: -1 }[event?.key];
    const end = { Home: 0, End: -1 }[event?.key];
    if (event && across === undefined && down === undefined && end === undefined) return;
    event?.preventDefault();
    chart.marks ??= marksOf(chart.view);
    if (!chart.marks.length) return;
    const axis = down === undefined ? 0 : 1;
    const order = [...chart.marks].sort((a, b) => a.middle[axis] - b.middle[axis] || a.middle[1 - axis] - b.middle[1 - axis]);
    const now = order.indexOf(chart.at);
    const move = across ?? down ?? 0;
    const to = end !== undefined ? end : now < 0 ? 0 : Math.min(order.length - 1, Math.max(0, now + move));
    chart.at = order.at(to);
    mark(element, chart.at);
  }

  function mark(element, { value, box }) {
    const inner = element.querySelector("svg").getBoundingClientRect();
    const outer = element.getBoundingClientRect();
    const [left, top] = [inner.left - outer.left, inner.top - outer.top];
    const [width, height] = [Math.max(8, box[2] - box[0]), Math.max(8, box[3] - box[1])];
    const [x, y] = [(box[0] + box[2] - width) / 2 + left, (box[1] + box[3] - height) / 2 + top];
    Object.assign(ring.style, { left: `${x - 2}px`, top: `${y - 2}px`, width: `${width + 4}px`, height: `${height + 4}px` });
    element.append(ring);
    ring.scrollIntoView({ block: "nearest", inline: "nearest" });
    const placed = ring.getBoundingClientRect();
    show(value, placed.right - 8, placed.bottom - 8);
    const told = document.getElementById("told");
    if (told) told.textContent = entriesOf(value).map(([name, text]) => (name ? `${name}: ${text}` : text)).join("; ");
  }

  // ---- files ----

  async function save(button) {
    const element = document.querySelector(`.chart[data-key="${CSS.escape(button.dataset.key)}"]`);
    const kind = button.dataset.save;
    const beside = document.createElement("div"); // a picture of one size, on a ground of its own
    Object.assign(beside.style, { position: "fixed", left: "-9999px", top: "0", width: "800px" });
    document.body.append(beside);
    const config = { ...configuration(beside, theme()), background: getComputedStyle(document.body).backgroundColor };
    const made = await embed(beside, charts.get(element).spec, config);
    try {
      const link = document.createElement("a");
      link.href = await made.view.toImageURL(kind, kind === "png" ? 2 : 1);
      link.download = `${button.dataset.key}.${kind}`;
      link.click();
    } finally {
      made.finalize();
      beside.remove();
    }
  }

  // ---- contents and paper ----

  function startContents() {
    const contents = document.querySelector(".contents details");
    const narrow = window.matchMedia("(max-width: 60rem)");
    if (!contents) return;
    const fit = () => { contents.open = !narrow.matches; };
    fit();
    narrow.addEventListener("change", fit);
    contents.addEventListener("click", (event) => { if (narrow.matches && event.target.closest("a")) contents.open = false; });
    const links = new Map([...contents.querySelectorAll("a")].map((link) => [link.hash.slice(1), link]));
    const reading = new IntersectionObserver((found) => {
      for (const { target, isIntersecting } of found) {
        if (!isIntersecting) continue;
        for (const link of links.values()) link.removeAttribute("aria-current");
        links.get(target.id)?.setAttribute("aria-current", "location");
      }
    }, { rootMargin: "-10% 0px -80% 0px" });
    for (const id of links.keys()) {
      const target = document.getElementById(id);
      if (target) reading.observe(target);
    }
  }

  window.addEventListener("beforeprint", () => { for (const element of charts.keys()) draw(element); });

  function start() {
    document.body.append(tip);
    startThemes();
    startContents();
    scan();
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();

  return { scan, draw, charts };
})();
