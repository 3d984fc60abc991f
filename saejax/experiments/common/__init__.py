"""What all studies share: commands, flags, claims."""
