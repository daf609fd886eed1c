"""A world in virtual time in which the code of the product runs unchanged, and everything beneath it fails (README.md)."""
