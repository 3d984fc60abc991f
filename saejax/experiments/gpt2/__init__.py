"""The GPT-2 study."""
