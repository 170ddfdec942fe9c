"""Looking for input that the server is not made for: `python -m fuzz`, `nox -s fuzz`."""
