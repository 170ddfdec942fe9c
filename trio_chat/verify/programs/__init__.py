"""Private instances of real programs: each in its own folder, on its own free port. `verify` and the tests start them."""
