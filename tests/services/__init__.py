"""Private instances of real programs for the tests: each in its own folder, on its own free port."""
