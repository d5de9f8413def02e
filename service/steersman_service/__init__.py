"""Serves a bundle over gRPC: request -> session -> batcher -> engine -> response."""
