"""Messages to the experiment's webhook."""
