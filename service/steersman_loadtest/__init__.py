"""Load tests of a running server: calls at a set rate, of real histories, whose answers are checked while it is measured."""
