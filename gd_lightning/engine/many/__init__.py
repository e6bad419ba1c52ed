"""Many runs at once: what they have in common, their settings, and three ways of training them (floor 3)."""
