"""Rules that ask for new gradients: generators that yield trial points and are sent (loss, gradient)."""
