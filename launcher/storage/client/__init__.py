"""One bucket of one server: credentials, calls with retries, and errors as sentences. Only this room knows boto3."""
