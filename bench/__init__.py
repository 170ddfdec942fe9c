"""How fast the server is: `python -m bench`, described in docs/performance.md."""
