"""Everything the acceptance tests use to start a server, drive it from outside and wait for what it does."""
