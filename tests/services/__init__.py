"""Fixtures for the private services of `trio_chat.verify.programs`."""
