"""What training adds to a checked program: optimizers, limits of training, and the programs that are evaluated."""
