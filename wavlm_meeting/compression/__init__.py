"""Making an encoder smaller: gates on what may go, exact pruning, distillation."""
