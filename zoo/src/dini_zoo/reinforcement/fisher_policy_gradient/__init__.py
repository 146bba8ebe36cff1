"""Policy gradients whose momentum is carried along when the policy changes."""
