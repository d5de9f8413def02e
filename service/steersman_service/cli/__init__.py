"""The console script `steersman`: what it serves, and what it asks of a server."""
