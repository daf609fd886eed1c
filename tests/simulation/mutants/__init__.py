"""Mistakes of the kind that real systems made, which are planted in the product one by one: the worlds have to find each."""
