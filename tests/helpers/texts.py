"""Texts made up for tests."""

TEXTS = [f"the cat number {i} sat on mat {i * i}, é and <|endoftext|> too\n" for i in range(40)]
