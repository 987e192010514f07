"use strict";
// Draws the histograms of the data: a bar for each bin; the pointer shows a bin's range and number.
(() => {
  const { make, css, axis, isDark } = look, HEIGHT = 170, drawn = [];
  const number = (value) => value.toLocaleString("en");
  const range = ({ begin, width, counts, low, high }, bin) => {
    const first = bin === 0 ? Math.min(low, begin) : begin + bin * width;
    const last = bin === counts.length - 1 ? Math.max(high, begin + bin * width) : begin + (bin + 1) * width - 1;
    return first === last ? number(first) : `${number(first)} to ${number(last)}`;
  };
  const told = (bars, bin) => `${range(bars.bins, bin)} ${bars.unit}: ${number(bars.bins.counts[bin])} pairs`;

  const options = (bars, width, tell) => {
    const { begin, width: wide, counts } = bars.bins, own = isDark() ? "#6cb2ff" : "#0b62c4";
    return {
      width, height: HEIGHT, legend: { show: false },
      cursor: { x: false, y: false, drag: { x: false, y: false }, points: { show: false } },
      scales: { x: { time: false, range: [begin, begin + wide * counts.length] }, y: { range: (plot, low, high) => [0, Math.max(1, high * 1.06)] } },
      series: [{}, { stroke: own, fill: own, width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.9, Infinity], align: 1 }) }],
      axes: [
        axis({ size: 28, gap: 3, space: 60, values: (plot, ticks) => ticks.map((tick) => number(tick)), incrs: [1, 2, 5].flatMap((n) => [0, 1, 2, 3, 4, 5, 6, 7].map((e) => n * 10 ** e)).sort((a, b) => a - b) }),
        axis({ size: 52, gap: 4, incrs: [1, 2, 5].flatMap((n) => [0, 1, 2, 3, 4, 5, 6, 7].map((e) => n * 10 ** e)).sort((a, b) => a - b) }),
      ],
      hooks: { setCursor: [(plot) => {
        const { left } = plot.cursor;
        const bin = left == null || left < 0 ? -1 : Math.floor((plot.posToVal(left, "x") - begin) / wide);
        tell(bin >= 0 && bin < counts.length ? told(bars, bin) : bars.help);
      }] },
    };
  };
  const draw = (one) => {
    if (one.plot) one.plot.destroy();
    const { begin, width, counts } = one.bars.bins, room = Math.max(200, Math.floor(one.place.clientWidth || one.box.clientWidth - 24));
    one.plot = new uPlot(options(one.bars, room, (text) => { one.note.textContent = text; }), [counts.map((count, bin) => begin + bin * width), counts], one.place);
  };
  const again = () => drawn.forEach(draw);

  for (const bars of JSON.parse(document.getElementById("histograms").textContent)) {
    const box = make("figure", document.getElementById(bars.place)), caption = make("figcaption", box, bars.title);
    const note = make("span", caption, bars.help), place = make("div", box, null, "bars"), one = { bars, box, note, place };
    box.dataset.bars = bars.title;
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", bars.bins.counts.map((count, bin) => (count ? told(bars, bin) : null)).filter(Boolean).join("; "));
    new ResizeObserver(() => {
      const room = Math.floor(place.clientWidth);
      if (one.plot && room && !look.printing && room !== one.plot.width) one.plot.setSize({ width: room, height: HEIGHT });
    }).observe(place);
    drawn.push(one);
    draw(one);
  }
  addEventListener("theme", again);
  addEventListener("beforeprint", () => { again(); for (const { plot } of drawn) plot.setSize({ width: 320, height: 150 }); });
  addEventListener("afterprint", again);
})();
