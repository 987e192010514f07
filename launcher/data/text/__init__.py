"""The text of cells: chat messages, mistakes in a text, its language; and the pair that is made of a row."""
