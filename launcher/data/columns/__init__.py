"""The columns of a table: which are prompt and answers, by setting or by name, and which answer is better."""
