"""NAMMs by gradient: importance, imitation, straight-through selection, refinement."""
