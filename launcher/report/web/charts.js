"use strict";
// Draws the charts from the points in the page.
(() => {
  const { make, css, isDark, axis } = look;
  const { charts, runs, findings } = JSON.parse(document.getElementById("points").textContent);
  const COLORS = {
    light: ["#0b62c4", "#c2410c", "#15803d", "#9333ea", "#b0126b", "#0e7490", "#8a6d00", "#4b5563"],
    dark: ["#6cb2ff", "#ff9d5c", "#5fd38d", "#c79bff", "#ff86c2", "#5ad1e6", "#e3c55b", "#b6bfca"],
  };
  const DASHES = [[], [7, 4], [2, 3]], HEIGHT = 210, FAR = "400px";
  const shown = runs.map(() => true), drawn = new Map();
  let smoothing = 0.6, withRaw = true, zoom = null, syncing = false;

  const byId = (id) => document.getElementById(id);
  const color = (run) => COLORS[isDark() ? "dark" : "light"][run % 8];
  const pale = (hex) => hex + (runs.length > 2 ? "2b" : "48");
  const dash = (run, part) => DASHES[(Math.floor(run / 8) + part) % 3];
  const figure = (value) => {
    if (value == null) return "–";
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(2);
    return size >= 1000 ? value.toFixed(0) : value.toPrecision(4);
  };

  // Exponential mean as in TensorBoard, without its bias towards 0 at the beginning.
  const smooth = (values) => {
    let last = 0, weight = 0;
    return values.map((value) => {
      if (value == null) return null;
      last = last * smoothing + value * (1 - smoothing);
      weight = weight * smoothing + 1 - smoothing;
      return last / weight;
    });
  };

  // The lines of a chart: for each run and each of its parts raw, smoothed and validation points.
  const ORDER = ["raw", "smooth", "eval"]; // no run's raw values cover another's line
  const linesOf = (chart) => everyLine(chart).sort((one, other) => ORDER.indexOf(one.kind) - ORDER.indexOf(other.kind));
  const everyLine = (chart) => runs.flatMap((run, place) => chart.parts.flatMap((part, number) => {
    const raw = run.raw[part.name], evals = run.evals[part.name], means = run.mean ? run.mean[part.name] : raw;
    const line = { run: place, part: number, label: part.label };
    return [
      ...(raw ? [{ ...line, kind: "raw", x: run.x, y: raw }, { ...line, kind: "smooth", x: run.mx || run.x, y: chart.smooth ? smooth(means) : means }] : []),
      ...(evals ? [{ ...line, kind: "eval", x: run.ex, y: evals }] : []),
    ];
  }));

  const series = (line) => {
    const own = color(line.run), on = shown[line.run];
    const base = { label: `${runs[line.run].name} ${line.label} ${line.kind}`, spanGaps: line.kind !== "raw" };
    if (line.kind === "raw") return { ...base, show: on && withRaw, stroke: pale(own), width: 1, points: { show: line.x.length < 2 } };
    if (line.kind === "smooth") return { ...base, show: on, stroke: own, width: 2, dash: dash(line.run, line.part), points: { show: line.x.length < 2 } };
    return { ...base, show: on, stroke: own, width: 1, dash: [1, 4], points: { show: true, size: 7, stroke: own, fill: line.part ? css("--card") : own } };
  };

  // A bar from the first to the last step of each finding, and its number above.
  const mark = (chart) => (plot) => {
    const { ctx, bbox } = plot, ratio = devicePixelRatio || 1, taken = [];
    ctx.save();
    for (const found of findings) {
      if (found.chart !== chart.key || found.first == null || !shown[found.run]) continue;
      const at = plot.valToPos(found.first, "x", true), end = plot.valToPos(found.last ?? found.first, "x", true);
      const left = Math.max(at, bbox.left), right = Math.min(end, bbox.left + bbox.width);
      if (right < bbox.left || left > bbox.left + bbox.width) continue;
      ctx.fillStyle = pale(color(found.run)).slice(0, 7) + "1f";
      ctx.fillRect(left, bbox.top, Math.max(2 * ratio, right - left), bbox.height);
      ctx.fillStyle = css("--warn");
      ctx.fillRect(left, bbox.top, 2 * ratio, bbox.height);
      const box = 15 * ratio, x = Math.min(left, bbox.left + bbox.width - box);
      let y = bbox.top;
      while (taken.some((other) => Math.abs(other.x - x) < box && Math.abs(other.y - y) < box)) y += box;
      taken.push({ x, y });
      ctx.fillRect(x, y, box, box);
      ctx.fillStyle = css("--card");
      ctx.font = `bold ${11 * ratio}px system-ui, sans-serif`;
      ctx.textAlign = "center";
      ctx.textBaseline = "middle";
      ctx.fillText(String(found.number), x + box / 2, y + box / 2 + ratio / 2);
    }
    ctx.restore();
  };

  const options = (chart, lines, width) => ({
    width, height: HEIGHT, legend: { show: false },
    cursor: { sync: { key: "steps", setSeries: false, scales: ["x", null] }, drag: { x: true, y: false, setScale: true }, points: { size: 6 } },
    scales: { x: { time: false, range: steps } },
    series: [{ label: "step" }, ...lines.map(series)],
    axes: [
      axis({ size: 28, gap: 3, space: 60, incrs: [1, 2, 5].flatMap((n) => [0, 1, 2, 3, 4, 5, 6].map((e) => n * 10 ** e)).sort((a, b) => a - b) }),
      axis({ size: 58, gap: 4, values: (plot, ticks) => ticks.map((tick) => (tick == null ? "" : short(tick, ticks))) }),
    ],
    hooks: {
      ready: [(plot) => touch(plot, [first, last], show)],
      draw: [mark(chart)],
      setCursor: [(plot) => read(chart, plot)],
      setScale: [(plot, key) => { if (key === "x") follow(plot); }],
    },
  });
  // What a drag has chosen; else all steps of the page, also of a chart whose lines are shorter.
  const steps = (plot, low, high) => {
    const x = plot.data[0], whole = first < last ? [first, last] : [first - 1, last + 1];
    return low == null || (low === x[0] && high === x[x.length - 1]) ? whole : [low, high];
  };
  const short = (tick, ticks) => {
    const step = Math.abs((ticks[1] ?? tick) - ticks[0]), size = Math.max(...ticks.map((one) => Math.abs(one ?? 0)));
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) return tick === 0 ? "0" : tick.toExponential(1);
    return String(Number(tick.toFixed(Math.max(0, Math.min(6, Math.ceil(-Math.log10(step || 1)) + 1)))));
  };

  const [first, last] = runs.flatMap((run) => [...run.x, ...run.ex]).reduce(([a, b], x) => [Math.min(a, x), Math.max(b, x)], [Infinity, -Infinity]);

  // All charts show the same steps.
  const follow = (plot) => {
    if (syncing) return;
    const { min, max } = plot.scales.x;
    if (min != null && max != null) show(min <= first && max >= last ? null : [min, max], plot);
  };
  const show = (range, source) => {
    syncing = true;
    zoom = range;
    for (const { plot } of drawn.values()) if (plot !== source || !range) plot.setScale("x", { min: range ? range[0] : first, max: range ? range[1] : last });
    byId("from").value = Math.round(range ? range[0] : first);
    byId("to").value = Math.round(range ? range[1] : last);
    syncing = false;
  };

  // The value of a line at a step: the last one that is not after it.
  const at = (line, step) => {
    let low = 0, high = line.x.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (line.x[middle] <= step) low = middle; else high = middle - 1;
    }
    while (low > 0 && line.y[low] == null) low -= 1;
    return line.x.length ? line.y[low] : null;
  };
  const read = (chart, plot) => {
    const found = drawn.get(chart.key);
    if (!found) return;
    const { left } = plot.cursor, step = left == null || left < 0 ? last : plot.posToVal(left, "x");
    found.step.textContent = left == null || left < 0 ? "last" : `step ${Math.round(step).toLocaleString("en")}`;
    for (const row of found.rows) {
      row.train.textContent = row.smooth ? figure(at(row.smooth, step)) : "–";
      if (row.validation) row.validation.textContent = row.eval ? figure(at(row.eval, step)) : "–";
    }
  };

  const legend = (chart, lines, place) => {
    const table = make("table", place, null, "legend"), head = make("tr", make("thead", table)), body = make("tbody", table);
    const step = make("th", head, "last"), hasEvals = lines.some((line) => line.kind === "eval");
    make("th", head, "train");
    if (hasEvals) make("th", head, "validation");
    const rows = [];
    runs.forEach((run, number) => chart.parts.forEach((part, index) => {
      const own = lines.filter((line) => line.run === number && line.part === index);
      if (!own.length || !shown[number]) return;
      const row = make("tr", body), name = make("th", row), swatch = make("i", name, null, "line");
      swatch.style.borderColor = color(number);
      swatch.style.borderTopStyle = dash(number, index).length ? "dashed" : "solid";
      name.append(runs.length > 1 ? run.name + (part.label ? ` ${part.label}` : "") : part.label || part.name);
      name.title = name.textContent;
      const of = (kind) => own.find((line) => line.kind === kind);
      rows.push({ smooth: of("smooth"), eval: of("eval"), train: make("td", row), validation: hasEvals ? make("td", row) : null });
    }));
    return { step, rows };
  };

  const draw = (chart, box) => {
    const old = drawn.get(chart.key);
    if (old) old.plot.destroy();
    const place = box.querySelector(".plot"), lines = linesOf(chart);
    box.querySelector(".legend")?.remove();
    const data = lines.length ? uPlot.join(lines.map((line) => [line.x, line.y])) : [[]];
    const width = Math.max(200, Math.floor(place.clientWidth || box.clientWidth - 24));
    const parts = legend(chart, lines, box), plot = new uPlot(options(chart, lines, width), data, place);
    drawn.set(chart.key, { plot, box, chart, ...parts });
    if (zoom) plot.setScale("x", { min: zoom[0], max: zoom[1] });
    read(chart, plot);
  };
  const again = () => { for (const { chart, box } of [...drawn.values()]) draw(chart, box); paint(); };
  const paint = () => { for (const mark of document.querySelectorAll(".mark[data-run]")) mark.style.background = color(+mark.dataset.run); };

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target.chart, entry.target); }
  }, { rootMargin: FAR });
  const sized = new ResizeObserver((entries) => {
    for (const entry of entries) {
      const found = drawn.get(entry.target.parentNode.chart.key), width = Math.floor(entry.contentRect.width);
      if (found && width && width !== found.plot.width) found.plot.setSize({ width, height: HEIGHT });
    }
  });

  for (const chart of charts) {
    const box = make("figure", byId(chart.main ? "main" : "others"));
    const caption = make("figcaption", box, chart.title);
    if (chart.help) make("span", caption, chart.help);
    box.chart = chart;
    box.dataset.chart = chart.key;
    sized.observe(make("div", box, null, "plot"));
    seen.observe(box);
  }

  if (!byId("runs")) { paint(); return; }
  runs.forEach((run, number) => {
    if (runs.length < 2) return;
    const chip = make("button", byId("runs"));
    chip.type = "button";
    make("i", chip, null, "mark").dataset.run = number;
    chip.append(run.name);
    chip.setAttribute("aria-pressed", "true");
    chip.addEventListener("click", () => {
      shown[number] = !shown[number];
      chip.setAttribute("aria-pressed", String(shown[number]));
      again();
    });
  });
  byId("smoothing").addEventListener("input", (event) => {
    smoothing = +event.target.value;
    byId("smoothed").textContent = smoothing.toFixed(2);
    again();
  });
  byId("raw").addEventListener("change", (event) => { withRaw = event.target.checked; again(); });
  byId("reset").addEventListener("click", () => show(null));
  for (const id of ["from", "to"]) byId(id).addEventListener("change", () => {
    const low = +byId("from").value, high = +byId("to").value;
    show(low < high ? [low, high] : null);
  });
  byId("from").value = first;
  byId("to").value = last;
  addEventListener("theme", again);
  // On paper: light colours, every chart, two beside each other.
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
    for (const box of document.querySelectorAll("figure")) if (!drawn.has(box.chart.key)) draw(box.chart, box);
    again();
    for (const { plot } of drawn.values()) plot.setSize({ width: 320, height: 180 });
  });
  addEventListener("afterprint", again);
  paint();
})();
