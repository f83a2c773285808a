// The front end of Kitaru's browser. It draws what the kernel says and sends what a person asks for; it keeps nothing
// that the kernel would have to know. Recorded content is hostile: it goes in as text, never as HTML.

const NO_KERNEL = "There is no kernel behind this view any more: run the cell again.";
const SIGNS = { completed: "✓", failed: "✗", cancelled: "✗", interrupted: "!", running: "●" };
const ACTIONS = { record: "edit", resume: "resume", step: "step", checkout: "check out", undo: "undo",
  debug: "debug", answer: "answer", abort: "abort", cancel: "cancel" };
const SVG_TAGS = new Set(["svg", "g", "rect", "path", "text", "tspan", "title", "style"]);
const DRAWN = 500; // rows of a list that are put into the page

// ------------------------------------------------------------------ small pieces

const given = (children) => children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false);

function put(node, ...children) { node.replaceChildren(...given(children)); }

function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && typeof value !== "string") node[name] = value;
    else if (value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...given(children));
  return node;
}

function pill(status) {
  const kind = /^[a-z]+$/.test(status) ? status : "pending";
  return h("span", { class: `kb-pill kb-${kind}` }, `${SIGNS[kind] ?? "·"} ${status}`);
}

function since(seconds) {
  const when = new Date(seconds * 1000);
  if (Number.isNaN(when.getTime())) return "";
  const today = new Date().toDateString() === when.toDateString();
  const time = when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return today ? time : `${when.toLocaleDateString([], { day: "numeric", month: "short" })} ${time}`;
}

// A picture as the kernel drew it. Its texts are escaped there; what has no business in a picture is left out here.
function drawing(text) {
  const parsed = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  if (parsed.nodeName !== "svg") return null;
  const clean = (from) => {
    const to = document.createElementNS("http://www.w3.org/2000/svg", from.localName);
    for (const { name, value } of from.attributes) {
      if (!/^on|href$|^style$|^xmlns/i.test(name)) to.setAttribute(name, value);
    }
    for (const child of from.childNodes) {
      if (child.nodeType === Node.TEXT_NODE) to.append(child.data);
      else if (child.nodeType === Node.ELEMENT_NODE && SVG_TAGS.has(child.localName)) to.append(clean(child));
    }
    return to;
  };
  return clean(parsed);
}

// Along a list by arrow keys: the rows are `role=option`, of which one can be reached by Tab.
function walk(list, event, choose) {
  const rows = [...list.querySelectorAll("[role=option]")];
  const at = rows.indexOf(event.target.closest("[role=option]"));
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
  if (to !== undefined && rows[to]) {
    event.preventDefault();
    rows.forEach((row) => { row.tabIndex = -1; });
    rows[to].tabIndex = 0;
    rows[to].focus();
    choose?.(rows[to], false);
  } else if ((event.key === "Enter" || event.key === " ") && rows[at]) {
    event.preventDefault();
    choose?.(rows[at], true);
  }
}

// ------------------------------------------------------------------ the view

class View {
  constructor(model, el) {
    this.model = model;
    this.zoom = 1;
    this.listed = false; // the steps as a list, in the place of the picture
    this.waiting = 0;
    this.answers = new Map(); // what was typed into the answer to a wait stays
    this.filter = h("input", { type: "search", placeholder: "Filter", "aria-label": "Filter the executions",
      oninput: () => this.drawRuns() });
    this.status = h("select", { "aria-label": "Only this status", onchange: () => this.drawRuns() },
      ["any status", "failed", "interrupted", "completed", "running", "paused", "waiting", "pending", "cancelled"]
        .map((s, n) => h("option", { value: n ? s : "" }, s)));
    this.runs = h("ul", { class: "kb-list", role: "listbox", "aria-label": "Executions",
      onkeydown: (e) => walk(this.runs, e, (row, enter) => enter && this.openRow(row)) });
    this.head = h("div", { class: "kb-head" });
    this.tools = h("div", { class: "kb-tools", role: "toolbar", "aria-label": "The execution" });
    this.stage = h("div", { class: "kb-stage", onkeydown: (e) => this.keyOnStage(e), onclick: (e) => this.pick(e) });
    this.plan = h("section", { class: "kb-plan", "aria-label": "Plan" });
    this.side = h("section", { class: "kb-side", "aria-label": "The chosen step" });
    this.trouble = h("div", { class: "kb-trouble", role: "alert" });
    this.job = h("div", { class: "kb-job", role: "status", "aria-live": "polite" });
    this.code = h("pre", { class: "kb-code" });
    this.root = h("div", { class: "kb", "data-lm-suppress-shortcuts": "true",
      onkeydown: (e) => e.stopPropagation() },
      h("nav", { class: "kb-runs", "aria-label": "Executions" },
        h("div", { class: "kb-tools" }, this.filter,
          this.button("↻", () => this.send({ do: "refresh" }), { label: "Read the store again" }), this.status),
        this.runs),
      h("main", { class: "kb-main" }, this.head, this.tools, this.stage, this.plan),
      this.side,
      h("footer", { class: "kb-foot" }, this.trouble, this.job,
        h("div", { class: "kb-line" }, h("span", { class: "kb-dim" }, "In code"), this.code,
          this.button("Copy", () => this.copy(), { label: "Copy the line of code" }))));
    el.append(this.root);
    this.root.addEventListener("pointerover", (e) => this.tellLine(e));
    this.root.addEventListener("focusin", (e) => this.tellLine(e));

    const on = { runs: ["drawRuns"], current: ["drawRuns"], opened: ["drawRuns", "drawOpened", "drawSide"],
      step: ["drawSide", "mark"], editor: ["drawSide"], plan: ["drawPlan"], job: ["drawJob", "drawTools"],
      lines: ["drawTools", "drawSide", "drawLines"], trouble: ["drawTrouble"] };
    this.listeners = Object.entries(on).map(([name, parts]) => {
      const draw = () => parts.forEach((part) => this[part]());
      model.on(`change:${name}`, draw);
      return () => model.off(`change:${name}`, draw);
    });
    for (const part of ["drawRuns", "drawOpened", "drawSide", "drawPlan", "drawJob", "drawTrouble", "drawLines"]) this[part]();
  }

  get(name) { return this.model.get(name) ?? {}; }

  get busy() { return this.get("job").phase === "running"; }

  close() { this.listeners.forEach((off) => off()); }

  send(message) {
    try {
      this.model.send(message);
      return true;
    } catch {
      this.say(NO_KERNEL);
      this.root.classList.add("kb-dead");
      return false;
    }
  }

  say(text) {
    this.trouble.textContent = text;
    this.trouble.hidden = !text;
  }

  drawTrouble() { this.say(this.model.get("trouble")); }

  button(text, action, { label, line, primary, disabled, kind = "" } = {}) {
    return h("button", { type: "button", class: `kb-button${primary ? " kb-primary" : ""} ${kind}`, onclick: action,
      title: line ?? label, "aria-label": label, "data-line": line, disabled: Boolean(disabled) }, text);
  }

  // Code that runs ends at its next step. Only async code can be stopped harder, at its next await.
  stop() {
    const job = this.get("job"), harder = job.asked && job.harder;
    return this.button(harder ? "Stop now" : "Stop", () => this.send({ do: "stop" }), { kind: "kb-stop",
      label: harder ? "Stop at the next await" : "Stop before the next step",
      disabled: !(this.busy && job.stops && (!job.asked || job.harder)) });
  }

  // What the button under the pointer, or the focus, is in code; else what was done last.
  tellLine(event) {
    const line = event.target.closest?.("[data-line]")?.dataset.line;
    if (line) this.code.textContent = line;
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(this.code.textContent);
    } catch { // it is not to be had in this page: then it is there to be copied by hand
      getSelection().selectAllChildren(this.code);
    }
  }

  // ---------------------------------------------------------------- executions

  drawRuns() {
    const { rows = [], more } = this.get("runs");
    const here = this.get("opened").id;
    const current = this.model.get("current");
    const wanted = this.filter.value.trim().toLowerCase();
    const status = this.status.value;
    const found = rows.filter((r) => (!status || r.status === status)
      && (!wanted || r.id.toLowerCase().includes(wanted) || r.flow.toLowerCase().includes(wanted)));
    const focused = document.activeElement?.closest?.(".kb-runs [role=option]")?.dataset.id;
    const reach = found.some((r) => r.id === here) ? here : found[0]?.id;
    put(this.runs, found.slice(0, DRAWN).map((r) => h("li", {
      role: "option", "aria-selected": `${r.id === here}`, tabindex: r.id === reach ? "0" : "-1", "data-id": r.id,
      title: `%kitaru show ${r.id}`, onclick: (e) => this.openRow(e.currentTarget) },
    h("span", { class: "kb-row" }, h("b", {}, r.id), r.id === current
      ? h("span", { class: "kb-mark", title: "the notebook's current execution" }, "current") : null),
    h("span", { class: "kb-row kb-dim" }, pill(r.status), h("span", {}, since(r.begun))))));
    if (!found.length) this.runs.append(h("li", { class: "kb-dim" }, rows.length ? "None is like that" : "Nothing is recorded yet"));
    if (more && found.length === rows.length) this.runs.append(h("li", { class: "kb-dim" }, "Older ones: %kitaru runs"));
    if (focused) [...this.runs.children].find((row) => row.dataset.id === focused)?.focus();
  }

  openRow(row) {
    if (this.busy) return;
    this.code.textContent = ""; // it was about another one
    this.send({ do: "open", ref: row.dataset.id });
  }

  // ---------------------------------------------------------------- the execution in the middle

  drawOpened() {
    const o = this.get("opened");
    if (!o.id) {
      put(this.head, h("span", { class: "kb-dim" }, "Choose an execution"));
      put(this.stage);
      this.drawTools();
      return;
    }
    const count = o.steps.length + o.more - (o.next ? 1 : 0); // the next one has not begun
    put(this.head, h("b", { class: "kb-title" }, o.flow), pill(o.status), h("span", { class: "kb-dim" }, o.id),
      o.origin ? h("span", { class: "kb-dim" }, `a fork of ${o.origin}`) : null,
      h("span", { class: "kb-dim" }, `${count} step${count === 1 ? "" : "s"}`),
      o.marks.stale.length ? h("span", { class: "kb-warn" }, `${o.marks.stale.length} stale`) : null,
      o.unrun ? h("span", { class: "kb-warn" }, "has not run yet") : null);
    if (o.failure) this.head.append(h("div", { class: "kb-error" }, o.failed_at ? `${o.failed_at}: ${o.failure}` : o.failure));
    else if (o.result) {
      this.head.append(h("div", { class: "kb-result" }, h("span", { class: "kb-dim" }, "result "), h("code", {}, o.result.glimpse)));
    }
    this.drawTools();
    this.drawStage();
  }

  drawTools() {
    const o = this.get("opened"), lines = this.get("lines"), job = this.get("job");
    const focused = document.activeElement?.closest?.(".kb-tools")?.contains(document.activeElement)
      ? document.activeElement.textContent : null;
    if (!o.id) { put(this.tools); return; }
    const off = this.busy, stale = o.unrun || o.marks.stale.length > 0;
    const done = ["completed", "cancelled"].includes(o.status) && !stale;
    const zoom = (by) => () => { this.zoom = by ? Math.min(Math.max(this.zoom * by, 0.2), 4) : this.fit(); this.scale(); };
    put(this.tools, 
      this.button("Plan", () => this.send({ do: "plan" }), { line: lines.plan, disabled: off }),
      this.button("Resume", () => this.send({ do: "resume" }),
        { line: lines.resume, primary: !done, disabled: off || done }),
      o.cells ? null : this.button("Step", () => this.send({ do: "step" }),
        { line: lines.step, disabled: off || done, label: "Run one step, and pause before the next" }),
      this.stop(),
      o.cells || !["waiting", "paused", "interrupted", "pending", "running"].includes(o.status) ? null
        : this.button("Cancel", () => this.send({ do: "cancel" }),
          { line: lines.cancel, disabled: off, label: "Cancel this execution: it never runs again" }),
      this.button("Undo", () => this.send({ do: "undo" }),
        { line: lines.undo, disabled: off, label: "Take the last edit or checkout back" }),
      h("span", { class: "kb-space" }),
      o.picture ? [
        this.button("−", zoom(0.8), { label: "Smaller" }), this.button("Fit", zoom(0), { label: "Fit the picture" }),
        this.button("+", zoom(1.25), { label: "Larger" }),
        this.button(this.listed ? "Picture" : "List", () => { this.listed = !this.listed; this.drawOpened(); },
          { label: this.listed ? "The steps as a picture" : "The steps as a list" })] : null);
    if (focused) [...this.tools.children].find((b) => b.textContent === focused)?.focus();
  }

  drawStage() {
    const o = this.get("opened");
    const drawn = !this.listed && o.picture ? drawing(o.picture) : null;
    this.svg = drawn;
    this.stage.classList.toggle("kb-drawn", Boolean(drawn));
    if (drawn) {
      this.size = [Number(drawn.getAttribute("width")), Number(drawn.getAttribute("height"))];
      put(this.stage, drawn);
      requestAnimationFrame(() => { this.zoom = this.fit(); this.scale(); this.mark(); });
    } else {
      const steps = o.steps.slice(0, DRAWN);
      this.steps = h("ul", { class: "kb-list", role: "listbox", "aria-label": "Steps",
        onkeydown: (e) => walk(this.steps, e, (row) => this.choose(row.dataset.ref)) },
      steps.map((s) => h("li", { role: "option", tabindex: "-1", "data-ref": s.ref, style: `--depth:${s.depth}`, title: s.why },
        h("span", { class: "kb-row kb-step" }, h("b", {}, s.name), pill(s.status), h("span", { class: "kb-dim" }, s.took),
          s.marks.map((m) => h("span", { class: `kb-mark kb-mark-${m}` }, m))))));
      put(this.stage, this.steps);
      const more = o.steps.length + o.more - steps.length;
      if (more > 0) this.stage.append(h("p", { class: "kb-dim" }, `… ${more.toLocaleString()} more steps`));
      if (!o.steps.length) this.stage.append(h("p", { class: "kb-dim" }, "No step was recorded"));
    }
    this.mark();
  }

  fit() {
    const room = this.stage.clientWidth - 8;
    return room > 0 ? Math.min(Math.max(room / this.size[0], 0.55), 1) : 1;
  }

  scale() {
    if (!this.svg) return;
    this.svg.setAttribute("width", this.size[0] * this.zoom);
    this.svg.setAttribute("height", this.size[1] * this.zoom);
  }

  nodes() { return [...this.stage.querySelectorAll("[data-ref]")]; }

  // The chosen step, or the value that was pointed at, in the picture or in the list.
  mark() {
    const step = this.get("step"), nodes = this.nodes();
    const find = (ref) => nodes.find((n) => n.dataset.ref === ref);
    const chosen = (step.chosen && find(step.chosen)) || find(step.ref);
    nodes.forEach((n) => {
      n.classList.toggle("kb-chosen", n === chosen);
      n.setAttribute(n.getAttribute("role") === "option" ? "aria-selected" : "aria-pressed", `${n === chosen}`);
      n.setAttribute("tabindex", n === (chosen ?? nodes[0]) ? "0" : "-1");
    });
    if (chosen && chosen !== this.shown) chosen.scrollIntoView?.({ block: "nearest", inline: "nearest" });
    this.shown = chosen;
  }

  pick(event) {
    const node = event.target.closest("[data-ref]");
    if (!node) return;
    node.focus();
    this.choose(node.dataset.ref, 0);
  }

  // Keys may come faster than the kernel looks: it is asked for where they end.
  choose(ref, patience = 120) {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => {
      this.code.textContent = this.shows ?? ""; // it was about another one
      this.send({ do: "choose", ref });
    }, patience);
  }

  keyOnStage(event) {
    if (!this.svg) return;
    const node = event.target.closest?.("[data-ref]");
    if (event.key === "+" || event.key === "-" || event.key === "0") {
      this.zoom = event.key === "0" ? this.fit() : this.zoom * (event.key === "+" ? 1.25 : 0.8);
      this.scale();
    } else if (node && (event.key === "Enter" || event.key === " ")) {
      this.choose(node.dataset.ref, 0);
    } else {
      const to = this.neighbour(node, event.key);
      if (!to) return;
      this.nodes().forEach((n) => n.setAttribute("tabindex", n === to ? "0" : "-1"));
      to.focus();
      this.choose(to.dataset.ref);
    }
    event.preventDefault();
  }

  // The nearest node that way.
  neighbour(node, key) {
    const nodes = this.nodes();
    if (key === "Home") return nodes[0];
    if (key === "End") return nodes.at(-1);
    const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[key];
    if (!way) return null;
    if (!node) return nodes[0];
    const middle = (n) => { const b = n.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; };
    const from = middle(node);
    let best = null, least = Infinity;
    for (const n of nodes) {
      const [x, y] = middle(n).map((v, i) => v - from[i]);
      const along = x * way[0] + y * way[1], across = Math.abs(x * way[1]) + Math.abs(y * way[0]);
      if (n !== node && along > 4 && along + 2 * across < least) { best = n; least = along + 2 * across; }
    }
    return best;
  }

  // ---------------------------------------------------------------- the step on the right

  drawSide() {
    const step = this.get("step"), editor = this.get("editor");
    if (editor.ref) {
      this.drawEditor(editor);
      return;
    }
    this.editing = null;
    const lines = this.get("lines"), o = this.get("opened"), off = this.busy;
    const typing = this.side.contains(document.activeElement) ? document.activeElement : null;
    const waits = this.waits(o, off);
    if (!step.ref) {
      put(this.side, waits, h("p", { class: "kb-dim kb-hint" }, o.id
        ? "Choose a step: click it, or go there with the arrow keys." : ""));
      if (typing?.isConnected) typing.focus({ preventScroll: true });
      return;
    }
    const is_step = Boolean(step.status);
    const act = (message) => () => this.send({ ref: step.ref, ...message });
    const tools = is_step ? h("div", { class: "kb-tools", role: "toolbar", "aria-label": "The step" },
      o.cells || (step.status === "completed" && !o.unrun) ? this.button("Check out", act({ do: "checkout" }),
        { line: lines.checkout, disabled: off,
          label: o.cells ? "The variables as they were after this step" : "Back to behind this step, in a fork" }) : null,
      this.button("Check out inputs", act({ do: "checkout", before: true }),
        { line: lines.before, disabled: off, label: "What this step read, under its own names" }),
      o.cells || o.status === "completed" ? null
        : this.button("Run to here", () => this.send({ do: "resume", until: step.ref }),
          { line: lines.until, disabled: off, label: "Go on, and pause before this step" }),
      this.button("Debug", act({ do: "debug" }),
        { line: lines.debug, disabled: off, label: "Run it again on these inputs, and show where it fails" })) : null;
    const failure = step.failure;
    put(this.side, [
      waits,
      h("div", { class: "kb-head" }, h("b", { class: "kb-title" }, step.ref), is_step ? pill(step.status) : null,
        h("span", { class: "kb-dim" }, step.took),
        step.attempts > 1 ? h("span", { class: "kb-dim" }, `${step.attempts} attempts`) : null),
      tools,
      failure ? h("div", { class: "kb-failure" }, h("p", { class: "kb-error" }, failure.summary),
        h("details", {}, h("summary", {}, "Traceback"), h("pre", {}, failure.traceback))) : null,
      step.debugged ? h("div", { class: "kb-debugged", role: "region", "aria-label": "Debug" }, h("h4", {}, "Run again"),
        h("pre", {}, step.debugged)) : null,
      this.chat(step.chat),
      this.values("Outputs", step.outputs, step, off),
      this.values("Inputs", step.inputs, step, off),
      step.logged.length ? h("div", {}, h("h4", {}, "Logged"), h("dl", { class: "kb-facts" },
        step.logged.map(([k, v]) => [h("dt", {}, k), h("dd", {}, v)]))) : null,
      step.code ? h("details", { class: "kb-source", open: Boolean(failure) }, h("summary", {}, "Code"), h("pre", {}, step.code)) : null,
    ]);
    if (typing?.isConnected) typing.focus({ preventScroll: true });
  }

  // What the execution waits for: a question that a person answers here, or what comes by itself.
  waits(o, off) {
    return (o.waits ?? []).map((w) => {
      if (!w.asks) return h("p", { class: "kb-dim" }, w.said);
      const key = `${o.id}:${w.id}`;
      if (!this.answers.has(key)) {
        const area = h("textarea", { spellcheck: "false", "aria-label": `The answer to ${w.name}`, class: "kb-text",
          placeholder: w.takes, rows: "4", "data-line": w.answer });
        area.value = w.text;
        this.answers.set(key, area);
      }
      const area = this.answers.get(key);
      return h("div", { class: "kb-wait", role: "group", "aria-label": `${w.name} is asked` },
        h("div", { class: "kb-row" }, h("b", {}, w.name), pill("waiting"),
          w.until ? h("span", { class: "kb-dim" }, `until ${since(w.until)}`) : null),
        h("p", { class: "kb-question" }, w.question),
        w.facts.length ? h("dl", { class: "kb-facts" }, w.facts.map(([k, v]) => [h("dt", {}, k), h("dd", {}, v)])) : null,
        area, h("p", { class: "kb-dim" }, `takes ${w.takes}`),
        h("div", { class: "kb-tools" },
          this.button("Answer", () => this.send({ do: "answer", wait: w.id, text: area.value }),
            { line: w.answer, primary: true, disabled: off, label: `Answer ${w.name}` }),
          this.button("Abort", () => this.send({ do: "abort", wait: w.id }),
            { line: w.abort, disabled: off, label: `Close ${w.name} without an answer` })));
    });
  }

  chat(chat) {
    if (!chat) return null;
    return h("div", { class: "kb-chat" }, h("h4", {}, "Transcript"), chat.turns.map(([speaker, head, body]) =>
      h("div", { class: `kb-turn kb-by-${speaker}` }, h("b", {}, head), body ? h("pre", {}, body) : null)),
    chat.figures ? h("p", { class: "kb-dim" }, chat.figures) : null);
  }

  values(title, values, step, off) {
    if (!values.length) return null;
    return h("div", {}, h("h4", {}, title), values.map((v) => {
      const open = step.value && step.chosen === v.ref;
      const show = () => this.send(open ? { do: "choose", ref: step.ref } : { do: "value", ref: v.ref });
      return h("div", { class: `kb-value${step.chosen === v.ref ? " kb-chosen-value" : ""}` },
        h("div", { class: "kb-row" }, h("b", {}, v.name), h("span", { class: "kb-dim" }, v.size),
          v.edited ? h("span", { class: "kb-mark" }, "edited") : null, h("span", { class: "kb-space" }),
          this.button(open ? "Hide" : "Show", show, { label: `${open ? "Hide" : "Show"} all of ${v.name}`,
            line: `%kitaru show ${step.of}:${v.ref}`, kind: "kb-small" }),
          v.kind === "reference" || !step.status ? null : this.button("Edit", () => this.send({ do: "edit", ref: v.ref }),
            { label: `Edit ${v.name}`, disabled: off, kind: "kb-small" })),
        open ? this.whole(step.value) : this.glimpse(v));
    }));
  }

  whole(value) {
    return h("div", {}, value.text ? h("pre", {}, value.text) : null,
      value.note ? h("p", { class: "kb-dim" }, value.note) : null);
  }

  glimpse(v) {
    if (v.table) {
      return h("div", { class: "kb-scroll" }, h("table", {}, h("thead", {}, h("tr", {}, h("th", {}),
        v.table.heads.map((t) => h("th", { scope: "col" }, t)))), h("tbody", {}, v.table.rows.map(([label, ...cells]) => h("tr", {},
        h("th", { scope: "row" }, label), cells.map((c) => h("td", {}, c)))))),
      v.table.more ? h("p", { class: "kb-dim" }, `… ${v.table.more.toLocaleString()} more rows`) : null);
    }
    if (v.messages) {
      return h("dl", { class: "kb-facts" }, v.messages.map(([role, text]) => [h("dt", {}, role), h("dd", {}, text)]));
    }
    return h("code", { class: "kb-glimpse" }, v.glimpse);
  }

  // ---------------------------------------------------------------- the editor

  drawEditor(editor) {
    if (this.editing?.key === `${this.get("opened").id}:${editor.ref}`) { // what was typed stays
      this.editing.tell(editor);
      return;
    }
    const text = h("textarea", { spellcheck: "false", "aria-label": `The new value of ${editor.ref}`, class: "kb-text" });
    text.value = editor.text;
    const why = h("input", { type: "text", placeholder: "Why (recorded with the edit)", "aria-label": "Why" });
    const force = h("input", { type: "checkbox" });
    const forced = h("label", { class: "kb-warn", hidden: true }, force, " Another type is meant");
    const error = h("p", { class: "kb-error", role: "alert" });
    const line = () => {
      this.code.textContent = `${editor.line}${why.value ? ` --why ${JSON.stringify(why.value)}` : ""}\n${text.value}`;
    };
    const record = () => this.send({ do: "record", ref: editor.ref, mode: editor.mode, text: text.value, why: why.value,
      force: force.checked, at: this.get("step").ref });
    const leave = () => this.send({ do: "leave" });
    const can = editor.mode !== "cell";
    const button = this.button("Record the edit", record, { primary: true });
    text.addEventListener("input", line);
    why.addEventListener("input", line);
    put(this.side, h("div", { class: "kb-editor", onkeydown: (e) => {
      if (e.key === "Escape") leave();
      if (e.key === "Enter" && (e.ctrlKey || e.metaKey) && can) record();
    } },
    h("div", { class: "kb-head" }, h("b", { class: "kb-title" }, `Edit ${editor.ref}`),
      h("span", { class: "kb-dim" }, can ? `${editor.type}, as ${editor.mode === "json" ? "JSON" : "text"}` : editor.type)),
    editor.note ? h("p", {}, editor.note) : null,
    can ? [text, why, forced, error] : h("pre", {}, `${editor.line}\n# the last line is the new value; old is the recorded one\nold`),
    h("div", { class: "kb-tools" }, can ? button : null, this.button("Cancel", leave),
      can ? h("span", { class: "kb-dim" }, "Ctrl+Enter records, Esc leaves") : null)));
    this.editing = { key: `${this.get("opened").id}:${editor.ref}`, tell: (now) => {
      error.textContent = now.error;
      forced.hidden = !now.other_type;
      button.disabled = this.busy;
    } };
    this.editing.tell(editor);
    line();
    text.focus({ preventScroll: true });
    text.setSelectionRange(0, 0);
  }

  // ---------------------------------------------------------------- the plan, and what is done

  drawPlan() {
    const plan = this.get("plan");
    this.plan.hidden = !plan.rows;
    if (!plan.rows) return;
    const s = (n) => (n === 1 ? "" : "s");
    const said = `${plan.again} step${s(plan.again)} ${plan.done ? "ran" : "would run again"}, ${plan.reused} reused`
      + (plan.edited ? `, ${plan.edited} edited` : "");
    put(this.plan, h("div", { class: "kb-row" }, h("h4", {}, plan.done ? "What became of it" : "Plan"), h("span", {}, said),
      plan.summary ? h("span", { class: "kb-dim" }, plan.summary) : null),
    plan.notes.map((note) => h("p", { class: "kb-warn" }, note)),
    h("div", { class: "kb-scroll" }, h("table", {}, h("tbody", {}, plan.rows.slice(0, DRAWN).map((r) => h("tr", {
      class: `kb-d-${r.decision.replace("?", "")}` },
    h("th", { scope: "row" }, r.ref), h("td", { class: "kb-decision" }, r.decision), h("td", { class: "kb-dim" }, r.why),
    h("td", { class: "kb-dim kb-number" }, r.took)))))));
  }

  drawLines() {
    const { show } = this.get("lines"), said = this.code.textContent;
    if (show && (!said || said === this.shows)) this.code.textContent = show;
    this.shows = show;
  }

  drawJob() {
    const job = this.get("job"), on = this.busy;
    this.job.hidden = job.phase === "idle" || !job.phase;
    this.root.classList.toggle("kb-busy", on);
    const sign = { running: "●", done: "✓", failed: "✗", stopped: "!" }[job.phase] ?? "";
    const count = job.total ? `${Math.min(job.done, job.total)} of ${job.total}` : job.done ? `${job.done}` : "";
    const what = ACTIONS[job.what] ?? job.what;
    const text = on ? [job.asked ? `${what}: stopping` : what, count, job.at].filter(Boolean).join(" · ") : job.told;
    const bar = on ? h("progress", { "aria-label": what, max: String(job.total || 1) }) : null;
    if (bar && job.total) bar.value = Math.min(job.done, job.total);
    put(this.job, [h("span", { class: `kb-sign kb-phase-${job.phase}` }, sign), h("span", { class: "kb-told" }, text), bar,
    ]);
    if (job.line && !this.get("editor").ref) this.code.textContent = job.line;
    if (on !== this.wasBusy) { this.wasBusy = on; this.drawSide(); }
  }
}

// The picture that is there for when nobody is: it stands in the output area of the same cell.
function hideStill(el) {
  const area = el.closest(".jp-OutputArea, .jp-Cell-outputArea") ?? document;
  for (const still of area.querySelectorAll(".kitaru-still")) {
    (still.closest(".jp-OutputArea-child") ?? still).style.display = "none";
  }
}

export default {
  render({ model, el }) {
    const view = new View(model, el);
    // JupyterLab opens a way beside the cells with the first message and its answer: then a Stop is heard at once.
    view.send({ do: "hello" });
    requestAnimationFrame(() => hideStill(el));
    return () => view.close();
  },
};
