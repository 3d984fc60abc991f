"""What the latents of an SAE respond to: their contexts, their labels, what a viewer shows of
them."""
