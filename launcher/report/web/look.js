"use strict";
// What the charts of a page share: elements, the colours of the theme, axes. All texts are set as text, never as HTML.
const look = (() => {
  const self = { printing: false };
  self.make = (tag, parent, text, name) => {
    const made = document.createElement(tag);
    if (text != null) made.textContent = text;
    if (name) made.className = name;
    if (parent) parent.append(made);
    return made;
  };
  self.css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  self.isDark = () => {
    const theme = document.documentElement.dataset.theme;
    return !self.printing && (theme === "dark" || (theme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches));
  };
  self.axis = (more) => ({
    stroke: self.css("--pale"), grid: { stroke: self.css("--grid"), width: 1 }, ticks: { stroke: self.css("--grid"), width: 1, size: 4 },
    font: "11px system-ui, sans-serif", ...more,
  });
  addEventListener("beforeprint", () => { self.printing = true; });
  addEventListener("afterprint", () => { self.printing = false; });
  return self;
})();
