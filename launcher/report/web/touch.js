"use strict";
// Fingers in a chart, which uPlot leaves to the page: two zoom, one moves the steps that are shown, a double tap shows all steps.
// One finger that moves up or down scrolls the page: .plot has touch-action: pan-y.
const touch = (plot, whole, show) => {
  const { over } = plot, TAP = 300, STILL = 12;
  let held = null, tapped = null, moved = false;

  const places = (event) => {
    const { left } = over.getBoundingClientRect();
    return [...event.targetTouches].slice(0, 2).map((finger) => finger.clientX - left);
  };
  const hold = (event) => {
    const at = places(event);
    held = at.length ? { at, steps: at.map((left) => plot.posToVal(left, "x")), min: plot.scales.x.min, max: plot.scales.x.max } : null;
  };
  // The range in which every finger is on the step that it was put on.
  const range = (at) => {
    const { steps, min, max } = held, [first, last] = whole, width = over.clientWidth;
    const apart = at.length > 1 ? Math.max(1, Math.abs(at[1] - at[0])) : 0;
    const wide = at.length > 1 ? Math.max(2, width * Math.abs(steps[1] - steps[0]) / apart) : max - min;
    if (wide >= last - first) return null;
    const middle = (values) => values.reduce((sum, one) => sum + one, 0) / values.length;
    const low = Math.min(Math.max(middle(steps) - wide * middle(at) / width, first), last - wide);
    return [low, low + wide];
  };

  over.addEventListener("touchstart", (event) => {
    moved = moved && event.targetTouches.length > 1;
    hold(event);
  }, { passive: true });
  over.addEventListener("touchmove", (event) => {
    const at = places(event);
    if (!held || at.length !== held.at.length) return hold(event);
    if (at.length > 1) event.preventDefault();
    else if (!moved && Math.abs(at[0] - held.at[0]) < STILL) return;
    moved = true;
    if (at.length > 1 || held.min > whole[0] || held.max < whole[1]) show(range(at));
    else plot.setCursor({ left: Math.min(Math.max(at[0], 0), over.clientWidth), top: over.clientHeight / 2 });
  }, { passive: false });
  over.addEventListener("touchend", (event) => {
    hold(event);
    if (held) { moved = true; return; } // another finger is still down: no tap
    const is_tap = !moved && event.changedTouches.length === 1;
    if (is_tap && tapped != null && event.timeStamp - tapped < TAP) { show(null); tapped = null; } else tapped = is_tap ? event.timeStamp : null;
    moved = false;
  }, { passive: true });
  over.addEventListener("touchcancel", () => { held = null; tapped = null; moved = false; }, { passive: true });
};
