"""What is checked at the door, and what is said there."""
