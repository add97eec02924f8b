// Following: the list takes up runs that come and go, and a page about runs the figures that changed. Only what differs
// is put in, so the place on the page, the focus, what is opened, ticked or marked stay as they are.
"use strict";

(() => {
  const soon = 2000; // while a search runs, in ms; the server draws no more often than it may
  const seldom = 10000;
  const quiet = 20000; // between two things that are said to who hears the page

  // ---- one piece of a page becomes another ----

  // What scripts of the page set, and the server does not know.
  const own = new Set(["open", "style", "hidden", "aria-current", "data-ready", "data-drawn"]);
  const waiting = new Map(); // a figure in which somebody is at work -> what it is to become

  const atWork = (element) => {
    const chosen = document.getSelection();
    const focused = document.activeElement;
    const marked = chosen && !chosen.isCollapsed && element.contains(chosen.anchorNode);
    return marked || (element.contains(focused) && focused.matches("input, select, textarea"));
  };

  function attributes(from, to) {
    for (const { name } of [...from.attributes]) if (!to.hasAttribute(name) && !own.has(name)) from.removeAttribute(name);
    for (const { name, value } of to.attributes) {
      if (!own.has(name) && from.getAttribute(name) !== value) from.setAttribute(name, value);
    }
  }

  function become(from, to) {
    if (from.nodeType !== Node.ELEMENT_NODE) {
      if (from.data !== to.data) from.data = to.data;
      return;
    }
    if (to.hasAttribute("data-same")) return;
    if (from.matches("article")) {
      if (atWork(from)) { waiting.set(from, to); return; }
      waiting.delete(from);
    }
    if (from.localName.includes("-")) { replaced(from, to); return; }
    if (from.matches('script[type="application/json"]')) {
      if (from.textContent !== to.textContent) { from.textContent = to.textContent; redraw(from); }
      return;
    }
    attributes(from, to);
    if (!from.matches(".chart, input, select:focus")) children(from, to);
  }

  const named = (one) => one.id || one.getAttribute?.("aria-labelledby") || "";
  const alike = (one, other) => one.nodeType === other.nodeType && one.nodeName === other.nodeName && named(one) === named(other);

  function children(from, to) {
    let at = from.firstChild;
    for (const next of [...to.childNodes]) {
      const found = named(next) ? [...from.children].find((one) => alike(one, next)) : at && alike(at, next) ? at : null;
      if (found) {
        if (found !== at) from.insertBefore(found, at);
        at = found.nextSibling; // before it may give way to another element
        become(found, next);
      } else if (!next.hasAttribute?.("data-same")) {
        from.insertBefore(document.importNode(next, true), at);
      }
    }
    while (at) {
      const after = at.nextSibling;
      at.remove();
      at = after;
    }
  }

  const fragment = (html) => {
    const made = document.createElement("template");
    made.innerHTML = html; // from our own server, which escapes all that is anybody's
    const place = document.createElement("div");
    place.append(made.content);
    return place;
  };

  // A piece with controls of its own begins anew with its data; what was chosen in it is chosen again.
  function replaced(from, to) {
    const data = (one) => one.querySelector('script[type="application/json"]')?.textContent;
    if (data(from) === data(to)) return;
    const before = controls(from);
    const made = document.importNode(to, true);
    from.replaceWith(made);
    restore(before, made);
  }

  const controls = (element) => [...element.querySelectorAll("select, input")]
    .map(({ type, name, value, checked }) => ({ type, name, value, checked }));

  function restore(before, element) {
    const now = [...element.querySelectorAll("select, input")];
    before.forEach((one, place) => {
      if (one.type === "radio" || one.type === "checkbox") {
        const same = now.find((other) => other.type === one.type && other.value === one.value);
        if (!same || same.checked === one.checked) return;
        if (one.type === "radio" && !one.checked) return;
        same.checked = one.checked;
        same.dispatchEvent(new Event("change", { bubbles: true }));
        return;
      }
      const same = now[place];
      if (!same || same.type !== one.type || same.value === one.value) return;
      if (same.options && ![...same.options].some(({ value }) => value === one.value)) return;
      same.value = one.value;
      same.dispatchEvent(new Event(one.type === "search" ? "input" : "change", { bubbles: true }));
    });
  }

  async function redraw(data) {
    const element = data.parentElement.querySelector(".chart");
    const chart = evomerge.charts.get(element);
    if (!chart) return;
    const before = controls(element);
    element.style.minHeight = `${element.offsetHeight}px`; // the page does not move meanwhile
    Object.assign(chart, { spec: JSON.parse(data.textContent), drawn: "", marks: null });
    if (!chart.visible) return;
    await evomerge.draw(element);
    restore(before, element);
  }

  function settle() {
    for (const [from, to] of [...waiting]) {
      if (!from.isConnected) waiting.delete(from);
      else if (!atWork(from)) become(from, to);
    }
  }

  // ---- asking again and again, while somebody looks ----

  const clock = () => new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });

  function following(ask) {
    let timer = 0;
    let asking = false;
    async function tick() {
      clearTimeout(timer);
      if (asking || document.hidden) return;
      asking = true;
      let pause = seldom;
      try { pause = await ask(); } finally {
        asking = false;
        if (pause) timer = setTimeout(tick, pause);
      }
    }
    document.addEventListener("visibilitychange", () => { if (!document.hidden) tick(); });
    timer = setTimeout(tick, soon);
    return tick;
  }

  let toldAt = 0;
  function tell(text, at_once) {
    if (!at_once && Date.now() - toldAt < quiet) return;
    toldAt = Date.now();
    document.getElementById("told").textContent = text;
  }

  // ---- a page about runs ----

  function follow(live) {
    const words = live.querySelector(".following");
    const button = live.querySelector("button");
    let paused = false;
    let running = live.dataset.running === "yes";
    let changed = clock();
    let gone = false;

    const say = (text, lost = false) => { words.textContent = text; live.classList.toggle("lost", lost); };
    function stand() {
      if (paused) say(`Paused; as it stood at ${changed}.`);
      else if (running) say(`Following the search; last change at ${changed}.`);
      else say(`Not running; as it stood at ${changed}. Changes appear by themselves.`);
      button.textContent = paused ? "Go on" : "Pause";
    }

    async function ask() {
      settle();
      if (paused) return 0;
      let answer;
      let found;
      try {
        const place = live.dataset.changes;
        answer = await fetch(`${place}${place.includes("?") ? "&" : "?"}version=${live.dataset.version}`);
        found = await answer.json();
      } catch {
        say(`The dashboard does not answer; what you see is how it stood at ${changed}. It is asked again.`, true);
        return seldom;
      }
      if (found.gone) {
        const text = `This is not there any more; what you see is how it stood at ${changed}.`;
        say(text, true);
        if (!gone) tell(text, true);
        gone = true;
        return seldom;
      }
      gone = false;
      if (found.version !== live.dataset.version) take(found);
      else running = found.running;
      stand();
      return running ? soon : seldom;
    }

    function take(found) {
      const ended = running && !found.running;
      running = found.running;
      changed = clock();
      live.dataset.version = found.version;
      document.title = `${found.title} · evomerge dashboard`;
      for (const [id, html] of [["masthead", found.masthead], ["contents", found.contents], ["figures", found.main]]) {
        children(document.getElementById(id), fragment(html));
      }
      evomerge.scan();
      tell(ended ? `The search has ended: ${found.told}` : found.told, ended);
    }

    const tick = following(ask);
    button.hidden = false;
    button.addEventListener("click", () => { paused = !paused; stand(); if (!paused) tick(); });
    stand();
  }

  // ---- the list ----

  function list(form) {
    const ticked = new Set();
    const compare = document.getElementById("compare");
    const button = compare.querySelector("button.strong");
    const hint = compare.querySelector(".hint");
    let version = "";
    let turn = 0;

    const asked = () => new URLSearchParams([...new FormData(form)].filter(([, value]) => value));

    function count() {
      button.disabled = ticked.size < 1;
      button.textContent = ticked.size > 1 ? `Compare ${ticked.size} runs` : "Compare";
      hint.textContent = ticked.size ? "" : "Tick runs to see them in one page.";
    }

    function take(found) {
      version = found.version;
      if (found.rows === undefined) return;
      children(document.getElementById("choices"), fragment(found.choices));
      children(document.getElementById("rows"), fragment(found.rows));
      for (const box of compare.querySelectorAll('input[name="run"]')) box.checked = ticked.has(box.value);
    }

    async function ask() {
      const mine = ++turn;
      const wanted = asked();
      if (version) wanted.set("version", version);
      try {
        const found = await (await fetch(`/rows?${wanted}`)).json();
        if (mine === turn) take(found);
      } catch {
        document.getElementById("count").textContent = "The dashboard does not answer; it is asked again.";
        version = "";
        return seldom;
      }
      return soon;
    }

    async function again() {
      history.replaceState(null, "", `/?${asked()}`);
      version = "";
      await ask();
      tell(document.getElementById("count").textContent, true);
    }

    following(ask);
    let typing = 0;
    form.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(again, 150); });
    form.addEventListener("submit", (event) => { event.preventDefault(); again(); });
    compare.addEventListener("change", ({ target }) => {
      if (target.checked) ticked.add(target.value);
      else ticked.delete(target.value);
      count();
    });
    compare.addEventListener("click", (event) => {
      const link = event.target.closest("a[data-sort]");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      form.elements.sort.value = link.dataset.sort;
      form.elements.order.value = link.dataset.order;
      again();
    });
    compare.addEventListener("submit", (event) => {
      event.preventDefault();
      location.href = `/compare?${new URLSearchParams([...ticked].map((key) => ["run", key]))}`;
    });
    for (const box of compare.querySelectorAll('input[name="run"]:checked')) ticked.add(box.value); // after "back"
    count();
  }

  function start() {
    const live = document.getElementById("live");
    const form = document.getElementById("wish");
    if (live) follow(live);
    if (form) list(form);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
