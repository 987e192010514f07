"""The demo's data and its small model, both made here: the demo needs no download."""
