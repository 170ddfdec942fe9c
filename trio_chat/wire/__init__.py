"""What crosses the wire, as pure code: frames, messages, and the classic dialect's own rules."""
