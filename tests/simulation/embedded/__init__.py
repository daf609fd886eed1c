"""The world of the embedded adapter: one worker after the other on one disk (README.md)."""
