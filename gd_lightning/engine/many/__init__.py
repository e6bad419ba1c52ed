"""Many runs at once: what they have in common, their settings, and three ways of training them (layer 3)."""
