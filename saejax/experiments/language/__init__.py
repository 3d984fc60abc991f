"""What the studies of language models share: stages, dictionaries, page."""
