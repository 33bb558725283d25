"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { values, said, forward, folds, edges, root, notes } = data;
  const blank = { covers: 1, edge: null, slope: null, formula: "", where: [], reads: [], saved: [], arrivals: [] };
  const steps = data.steps.map((step, i) => ({ ...blank, ...step, back: i >= forward }));
  const $ = (id) => document.getElementById(id);
  const svg = $("picture");
  const canvas = svg.querySelector(".graph");
  const boxes = new Map([...svg.querySelectorAll("[data-id]")].map((one) => [one.dataset.id, one]));
  const lines = new Map([...svg.querySelectorAll("[data-edge]")].map((one) => [+one.dataset.edge, one]));
  const calm = matchMedia("(prefers-reduced-motion: reduce)");

  // ---- What is known at a step ----------------------------------------------------------------

  // When a box is computed, when a VJP goes back along an edge, and what arrives at a value when.
  const made = new Map();
  const passed = new Map();
  const one = [["1"], [], true];
  const arrived = new Map(root ? [[root, [{ step: forward + 1, part: one, total: one, number: 1, count: 1 }]]] : []);
  steps.forEach((step, i) => {
    if (!step.back) made.set(step.place, i + 1);
    if (step.edge !== null) passed.set(step.edge, i + 1);
    step.arrivals = step.arrivals.map((arrival) => ({ number: 1, count: 1, ...arrival, step: i + 1, part: said[arrival.part], total: said[arrival.total] }));
    for (const arrival of step.arrivals) {
      arrived.set(arrival.to, [...(arrived.get(arrival.to) ?? []), arrival]);
    }
    step.saved = step.saved.map(([name, summary]) => [name, said[summary]]);
  });
  for (const value of Object.values(values)) value.summary = said[value.summary];
  const computed = (id, at) => at >= (made.get(id) ?? 0);
  const arrivals = (id, at) => (arrived.get(id) ?? []).filter((one) => one.step <= at);
  const gradient = (id, at) => arrivals(id, at).at(-1);
  const entering = (id) => edges.flatMap(([, head], i) => (head === id ? [i] : []));

  /** The edges that a step uses, and the boxes at their ends. */
  function reach(step) {
    const used = step.edge !== null ? [step.edge] : !step.back || folds[step.place] ? entering(step.place) : [];
    const ends = used.map((edge) => edges[edge][0]);
    return { used, ends: [...ends, ...step.arrivals.map((one) => one.to)].filter((id) => boxes.has(id)) };
  }

  // ---- Small pieces of the page ---------------------------------------------------------------

  function element(tag, className, ...content) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    made.append(...content);
    return made;
  }

  function shape(tag, attributes) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  }

  function histogram(counts, kind) {
    const highest = Math.max(...counts);
    const chart = shape("svg", { class: `histogram ${kind}`, viewBox: `0 0 ${counts.length * 10} 40`, preserveAspectRatio: "none", "aria-hidden": true });
    counts.forEach((count, i) => {
      const height = count && Math.max(1.5, (40 * count) / highest);
      chart.append(shape("rect", { x: i * 10, y: 40 - height, width: 9, height }));
    });
    return chart;
  }

  function numbers([rows, counts, finite], kind = "") {
    const text = rows.join("\n");
    const names = ["numbers", kind, counts.length ? "" : "rows", finite ? "" : "infinite"].filter(Boolean);
    const block = element("pre", names.join(" "), finite ? text : `! ${text}`);
    return counts.length ? [block, histogram(counts, kind)] : [block];
  }

  const extent = ({ shape, dtype }) => (shape.length ? `(${shape.join(", ")}${shape.length === 1 ? "," : ""}) ${dtype}` : dtype);

  function card(name, small, summary, kind) {
    const header = element("header", "", element("span", "", name), element("small", "", small));
    return element("section", `card ${kind}`, header, ...numbers(summary, kind));
  }

  const valueCard = (id) => card(values[id].name, extent(values[id]), values[id].summary, values[id].kind);
  const label = (text) => element("p", "label", text);
  const times = (n) => (n === 2 ? "twice" : `${n} times`);
  const scalar = ([rows, counts], id) => !values[id].shape.length && !counts.length && rows.length === 1;

  // ---- The panel ------------------------------------------------------------------------------

  function tellForward(step) {
    const value = values[step.place];
    if (step.covers > 1 || !value) return tellTogether(step, "operations");
    return [
      element("p", "lead", element("b", "", step.title), " computes ", element("b", "", value.name)),
      element("p", "formula", `${value.name} = ${step.formula}`),
      label("goes in"),
      ...step.reads.map(valueCard),
      label("comes out"),
      valueCard(step.place),
    ];
  }

  function tellTogether(step, what) {
    const where = step.place === null ? "" : ", drawn as one box";
    return [
      element("p", "lead", `${step.covers.toLocaleString("en")} ${what}${where}`),
      element("p", "formula", step.title),
      ...(folds[step.place] ?? []).slice(1).map((line) => element("p", "where", line)),
      ...step.arrivals.flatMap(tellArrival),
      element("p", "note", "One step for all of them. To walk through each, draw them: with fold=False, or around= one of them."),
    ];
  }

  function tellBackward(step, at) {
    const [arrival] = step.arrivals;
    const result = values[step.place];
    if (!result || step.covers > 1) return tellTogether(step, "VJPs");
    const name = values[arrival.to].name;
    const g = gradient(step.place, at).total;
    const start = step.place === root ? "where the backward pass starts" : `the gradient of ${result.name}`;
    const slope = step.slope === null ? [] : [element("p", "where", `d${result.name}/d${name} = ${+step.slope.toPrecision(4)}`)];
    return [
      element("p", "lead", "VJP of ", element("b", "", step.title), " for ", element("b", "", name)),
      element("p", "formula", `d${name} ${arrival.number > 1 ? "+=" : "="} ${step.formula}`),
      ...step.where.map((text) => element("p", "where", `where ${text}`)),
      ...slope,
      label("goes in"),
      card(`g = d${result.name}`, start, g, "gradient"),
      ...step.reads.map(valueCard),
      ...step.saved.map(([name, summary]) => card(name, "kept from the forward pass", summary, "computed")),
      ...tellArrival(arrival),
    ];
  }

  /** What is added to the gradient of a value: the sum in a line for a number, else its parts. */
  function tellArrival(arrival) {
    const { to, part, total, number, count } = arrival;
    const name = values[to].name;
    const all = arrived.get(to);
    const before = all[all.indexOf(arrival) - 1];
    const told = [label(number > 1 ? "is added to what has arrived" : "comes out")];
    if (scalar(total, to)) {
      told.push(element("p", "sum", `d${name} = ${sum(all.slice(0, all.indexOf(arrival) + 1))}`));
    } else if (before) {
      told.push(card(`d${name}`, "so far", before.total, "gradient"));
      told.push(card("+", "this step adds", part, "gradient"));
      told.push(card(`= d${name}`, "the new total", total, "gradient"));
    } else {
      told.push(card(`d${name}`, extent(values[to]), total, "gradient"));
    }
    if (count > 1) {
      const rest = count - number;
      const state = rest ? `${rest} more part${rest > 1 ? "s" : ""} to come.` : "This was the last part: the gradient is complete.";
      told.push(element("p", "now", `${name} is used ${times(count)}, so its gradient is a sum of ${count} parts. ${state}`));
    }
    return told;
  }

  /** The running sum of a number: 2 + 4 = 6. */
  function sum(all) {
    const parts = all.map((one) => one.part[0][0]);
    const shown = parts.length > 8 ? ["…", ...parts.slice(-8)] : parts;
    const written = shown.map((part, i) => (i && part.startsWith("-") ? `- ${part.slice(1)}` : i ? `+ ${part}` : part));
    const total = all.at(-1).total[0][0];
    return parts.length > 1 ? `${written.join(" ")} = ${total}` : total;
  }

  // ---- The picture at a step ------------------------------------------------------------------

  const gradientTexts = new Map([...boxes].map(([id, box]) => [id, [...box.querySelectorAll("text.gradient")].map((text) => [text, text.textContent])]));

  const BAR_HEIGHT = 14;

  /** A histogram in a box: an upright stroke for each bar. */
  function paintBars(path, counts = []) {
    const [left, bottom, width] = path.dataset.room.split(" ").map(Number);
    const column = width / counts.length;
    const highest = Math.max(...counts);
    const bars = counts.map((count, i) => count && `M${left + (i + 0.5) * column} ${bottom}v${-Math.max(1, (BAR_HEIGHT * count) / highest)}`);
    path.setAttribute("d", bars.filter(Boolean).join(""));
    path.setAttribute("stroke-width", counts.length ? column - 1 : 0);
  }

  /** The gradient in a box: missing, a part of it, or all of it. */
  function paintGradient(id, box, at) {
    const now = gradient(id, at);
    const complete = now && now.number === now.count;
    const rows = now ? now.total[0].map((row, i) => (i ? "     " : `${now.total[2] ? "" : "! "}part `) + row) : ["no grad yet"];
    for (const path of box.querySelectorAll("path.gradient")) paintBars(path, now?.total[1]);
    gradientTexts.get(id).forEach(([text, whole], i) => {
      text.textContent = complete ? whole : rows[i] ?? "";
      text.classList.toggle("soon", !now);
      text.classList.toggle("part", !complete);
    });
  }

  for (const [id, box] of boxes) {
    for (const path of box.querySelectorAll("path.value")) paintBars(path, values[id].summary[1]);
  }

  function halo(id, className) {
    const { x, y, width, height } = boxes.get(id).getBBox();
    canvas.append(shape("rect", { class: `halo ${className}`, x: x - 5, y: y - 5, width: width + 10, height: height + 10, rx: 8 }));
  }

  /** An arrow head at the beginning of an edge, for a gradient that goes back along it. */
  function headBack(line) {
    const path = line.querySelector("path");
    const [tip, base] = [path.getPointAtLength(0), path.getPointAtLength(9)];
    const [dx, dy] = [(base.x - tip.x) / 2, (base.y - tip.y) / 2];
    const points = [tip.x, tip.y, base.x - dy, base.y + dx, base.x + dy, base.y - dx];
    line.append(shape("polygon", { class: "head", points }));
  }

  function paint(step, at) {
    for (const [id, box] of boxes) {
      box.classList.toggle("todo", !computed(id, at));
      if (id in values) paintGradient(id, box, at);
    }
    const { used, ends } = reach(step);
    const { back } = step;
    for (const [edge, line] of lines) {
      const [, head] = edges[edge];
      line.classList.toggle("todo", !computed(head, at));
      line.classList.toggle("now", used.includes(edge));
      line.classList.toggle("back", back && used.includes(edge));
      for (const text of line.querySelectorAll("text")) text.classList.toggle("soon", at < (passed.get(edge) ?? 0));
    }
    svg.querySelectorAll(".halo, .head").forEach((one) => one.remove());
    if (back) used.forEach((edge) => lines.has(edge) && headBack(lines.get(edge)));
    if (boxes.has(step.place)) halo(step.place, "");
    if (back) new Set(ends).forEach((id) => id !== step.place && halo(id, "also"));
  }

  // ---- The view: the part of the picture that the window shows ----------------------------------

  let view = null; // the middle of the window, and pixels for a point
  let moving = 0;

  function aim(next) {
    view = { ...next, scale: Math.min(8, Math.max(0.02, next.scale)) };
    const { width, height } = svg.getBoundingClientRect();
    const [w, h] = [width / view.scale, height / view.scale];
    svg.setAttribute("viewBox", `${view.x - w / 2} ${view.y - h / 2} ${w} ${h}`);
    hideInfo();
  }

  function glide(to) {
    cancelAnimationFrame(moving);
    if (!view || calm.matches || document.hidden) return aim(to);
    const [from, start] = [view, performance.now()];
    const frame = (time) => {
      const t = Math.min(1, Math.max(0, (time - start) / 320));
      const eased = 1 - (1 - t) ** 3;
      const between = (a, b) => a + (b - a) * eased;
      aim({ x: between(from.x, to.x), y: between(from.y, to.y), scale: from.scale * (to.scale / from.scale) ** eased });
      if (t < 1) moving = requestAnimationFrame(frame);
    };
    moving = requestAnimationFrame(frame);
  }

  function around(ids) {
    const { e, f } = canvas.transform.baseVal.consolidate().matrix;
    const all = ids.map((id) => boxes.get(id).getBBox());
    const left = Math.min(...all.map((b) => b.x)), right = Math.max(...all.map((b) => b.x + b.width));
    const top = Math.min(...all.map((b) => b.y)), bottom = Math.max(...all.map((b) => b.y + b.height));
    return fit(left + e, right + e, top + f, bottom + f, 1.4);
  }

  function fit(left, right, top, bottom, most) {
    const { width, height } = svg.getBoundingClientRect();
    const scale = Math.min((width - 40) / (right - left), (height - 110) / (bottom - top), most);
    return { x: (left + right) / 2, y: (top + bottom) / 2 - 10 / scale, scale };
  }

  /** The step with what it reads, if that can be read; else the box that it is about. */
  function goHere() {
    const step = steps[at - 1];
    if (!step) return goWhole();
    const { ends } = reach(step);
    const main = boxes.has(step.place) ? [step.place] : ends.slice(0, 1);
    if (!main.length) return;
    const wide = around([...main, ...ends]);
    const to = wide.scale >= 0.8 ? wide : around(step.back && ends.length ? ends.slice(0, 1) : main);
    glide({ ...to, scale: Math.max(to.scale, 0.8) });
  }

  const size = svg.viewBox.baseVal;
  const whole = { right: size.width, bottom: size.height };
  const goWhole = () => glide(fit(0, whole.right, 0, whole.bottom, 2));
  const zoom = (factor) => glide({ ...view, scale: view.scale * factor });
  const pan = (dx, dy) => aim({ ...view, x: view.x + dx / view.scale, y: view.y + dy / view.scale });

  function zoomAt(clientX, clientY, factor) {
    cancelAnimationFrame(moving);
    const { left, top, width, height } = svg.getBoundingClientRect();
    const [dx, dy] = [clientX - left - width / 2, clientY - top - height / 2];
    const scale = Math.min(8, Math.max(0.02, view.scale * factor));
    const shift = 1 / view.scale - 1 / scale;
    aim({ x: view.x + dx * shift, y: view.y + dy * shift, scale });
  }

  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomAt(event.clientX, event.clientY, Math.exp(-event.deltaY * (event.deltaMode ? 0.03 : 0.0015)));
  }, { passive: false });

  const fingers = new Map();
  let travelled = 0;

  svg.addEventListener("pointerdown", (event) => {
    if (!fingers.size) travelled = 0;
    fingers.set(event.pointerId, event);
  });
  svg.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
    travelled += Math.hypot(dx, dy);
    if (travelled > 4) {
      svg.setPointerCapture(event.pointerId);
      svg.classList.add("dragged");
      cancelAnimationFrame(moving);
      const other = [...fingers.values()].find((one) => one.pointerId !== event.pointerId);
      if (other) {
        const distance = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
        zoomAt(other.clientX, other.clientY, distance(event) / Math.max(1, distance(before)));
      } else {
        pan(-dx, -dy);
      }
    }
    fingers.set(event.pointerId, event);
  });
  for (const type of ["pointerup", "pointercancel"]) {
    svg.addEventListener(type, (event) => {
      fingers.delete(event.pointerId);
      if (!fingers.size) svg.classList.remove("dragged");
    });
  }

  // ---- One value, on hover, tap or search -------------------------------------------------------

  const info = $("info");
  let pinned = null;

  function hideInfo() {
    info.hidden = true;
    pinned = null;
  }

  function showInfo(id) {
    const box = boxes.get(id);
    const value = values[id];
    const title = value ? value.name : folds[id]?.[0];
    if (title === undefined) return;
    info.replaceChildren(element("h3", "", title), ...(value ? tellValue(id, value) : folds[id].slice(1).map((line) => element("div", "", line))));
    info.hidden = false;
    const [stage, place, own] = [$("stage"), box, info].map((one) => one.getBoundingClientRect());
    const right = place.right + 10 + own.width <= stage.right;
    const left = right ? place.right + 10 : Math.max(stage.left + 8, Math.min(place.left, stage.right - own.width - 8));
    const top = right ? place.top : place.bottom + 10 + own.height <= stage.bottom ? place.bottom + 10 : place.top - own.height - 10;
    info.style.left = `${Math.max(8, left - stage.left)}px`;
    info.style.top = `${Math.max(8, Math.min(top - stage.top, stage.height - own.height - 8))}px`;
  }

  function tellValue(id, value) {
    const told = [element("small", "", `${value.kind}, ${extent(value)}`)];
    told.push(...(computed(id, at) ? numbers(value.summary) : [element("p", "none", "not computed yet")]));
    const now = gradient(id, at);
    if (now) {
      told.push(label(now.number === now.count ? "gradient" : `gradient so far: ${now.number} of ${now.count} parts`));
      told.push(...numbers(now.total, "gradient"));
    } else if (value.needs ?? true) {
      told.push(element("p", "none", arrived.has(id) || !root ? "no gradient yet" : "no gradient arrives here"));
    } else {
      told.push(element("p", "none", "needs no gradient"));
    }
    return told;
  }

  const boxUnder = (event) => event.target.closest?.("[data-id]")?.dataset.id;
  svg.addEventListener("pointerover", (event) => {
    if (event.pointerType !== "mouse" || fingers.size || pinned) return;
    const id = boxUnder(event);
    if (id) showInfo(id);
    else hideInfo();
  });
  svg.addEventListener("pointerleave", () => pinned || hideInfo());
  svg.addEventListener("click", (event) => {
    if (travelled > 4) return;
    const id = boxUnder(event);
    hideInfo();
    if (id) {
      showInfo(id);
      pinned = id;
    }
  });

  // ---- Search -----------------------------------------------------------------------------------

  const query = $("query");
  const MOST_FOUND = 50;

  function search() {
    const wanted = query.value.trim().toLowerCase();
    const hits = wanted ? [...boxes.keys()].filter((id) => values[id]?.name.toLowerCase().includes(wanted)) : [];
    hits.sort((a, b) => values[a].name.length - values[b].name.length);
    const rows = hits.slice(0, MOST_FOUND).map((id) => {
      const button = element("button", "", element("span", "", values[id].name), element("span", "", extent(values[id])));
      button.addEventListener("click", () => pick(id));
      return element("li", "", button);
    });
    const left = hits.length - rows.length;
    if (wanted && left) rows.push(element("li", "", element("p", "", `and ${left} more`)));
    if (wanted && !hits.length) rows.push(element("li", "", element("p", "", "no such name")));
    $("found").replaceChildren(...rows);
  }

  function pick(id) {
    cancelAnimationFrame(moving);
    aim(around([id]));
    showInfo(id);
    pinned = id;
  }

  function endSearch() {
    query.value = "";
    search();
    document.activeElement?.blur();
  }

  query.addEventListener("input", search);
  $("find").addEventListener("keydown", (event) => {
    const choices = [query, ...$("found").querySelectorAll("button")];
    const place = choices.indexOf(document.activeElement);
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (move) choices[(place + move + choices.length) % choices.length].focus();
    else if (event.key === "Enter" && document.activeElement === query) choices[1]?.click();
    else return;
    event.preventDefault();
  });

  // ---- Steps ------------------------------------------------------------------------------------

  let at = 0;
  let timer = 0;

  function go(to) {
    at = Math.min(steps.length, Math.max(Math.min(1, steps.length), to));
    const step = steps[at - 1];
    const remarks = notes.map((text) => element("p", "note", text));
    document.body.dataset.step = at;
    $("slider").value = at;
    for (const id of ["first", "back"]) $(id).disabled = at <= 1;
    for (const id of ["next", "last"]) $(id).disabled = at >= steps.length;
    if (!step) {
      $("step").replaceChildren(element("p", "lead", "There is nothing to step through: no operation was recorded."), ...remarks);
      return goWhole();
    }
    const { back } = step;
    const phase = back ? "backward" : "forward";
    const [place, all] = back ? [at - forward, steps.length - forward] : [at, forward];
    document.body.dataset.phase = phase;
    $("phase").textContent = back ? "Backward" : "Forward";
    $("place").textContent = `${place} of ${all}  ·  step ${at} of ${steps.length}`;
    $("slider").setAttribute("aria-valuetext", `${phase} ${place} of ${all}`);
    paint(step, at);
    const told = back ? tellBackward(step, at) : tellForward(step);
    $("step").replaceChildren(...told, ...remarks);
    $("told").scrollTop = 0;
    $("said").textContent = `Step ${at} of ${steps.length}, ${phase}. ${told.map((one) => one.textContent).join(". ")}`;
    goHere();
  }

  function play(on) {
    clearInterval(timer);
    timer = on ? setInterval(() => (at < steps.length ? go(at + 1) : play(false)), 1400) : 0;
    $("play").lastElementChild.textContent = on ? "Pause" : "Play";
    $("play").dataset.on = on;
  }

  const toggle = () => {
    if (!timer && at >= steps.length) go(1);
    play(!timer);
  };
  const walk = (to) => {
    play(false);
    go(to);
  };

  const actions = {
    first: () => walk(1), back: () => walk(at - 1), play: toggle, next: () => walk(at + 1), last: () => walk(steps.length),
    in: () => zoom(1.4), out: () => zoom(1 / 1.4), here: goHere, whole: goWhole,
    ask: () => $("help").showModal(), close: () => $("help").close(),
  };
  for (const [id, action] of Object.entries(actions)) $(id).addEventListener("click", action);
  $("slider").addEventListener("input", (event) => walk(+event.target.value));

  const keys = {
    ArrowRight: actions.next, ArrowLeft: actions.back, Home: actions.first, End: actions.last, " ": toggle,
    "+": actions.in, "=": actions.in, "-": actions.out, 0: goHere, f: goWhole, F: goWhole, "?": actions.ask,
    "/": () => query.focus(),
  };
  const shifted = { ArrowRight: [80, 0], ArrowLeft: [-80, 0], ArrowUp: [0, -80], ArrowDown: [0, 80] };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || $("help").open) return;
    if (event.key === "Escape") {
      if (document.activeElement.closest("#find")) endSearch();
      return hideInfo();
    }
    if (event.target === query) return;
    if (event.key === " " && event.target.closest("button")) return; // it presses the button
    const move = event.shiftKey && shifted[event.key];
    if (!move && !keys[event.key]) return;
    event.preventDefault();
    if (move) pan(...move);
    else keys[event.key]();
  });

  $("slider").max = steps.length;
  $("slider").style.setProperty("--split", `${(100 * forward) / Math.max(1, steps.length)}%`);
  play(false);
  go(1);
  // The window may be turned or resized: the same part of the picture stays in the middle.
  new ResizeObserver(() => aim(view)).observe(svg);
})();
