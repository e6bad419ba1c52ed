"""Plans: what theory predicts about a run before it is trained."""
