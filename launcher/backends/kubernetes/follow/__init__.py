"""How runs on a cluster are: state, logs, the archive of the claim, and what explains them."""
