"""The edge to an API server: raw JSON in and out, and what the launcher may ask of it."""
