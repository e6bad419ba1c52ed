"""What theory says of a run before it is trained."""
