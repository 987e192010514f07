"""S3 for tests, over HTTP: moto in a process of its own, and a proxy before it that does what networks and other servers do."""
