"""Real stores for tests and chaos runs: single servers, clusters, and primaries watched by Sentinels, all on loopback."""
