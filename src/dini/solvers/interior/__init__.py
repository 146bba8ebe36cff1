"""The parts of the interior point methods."""
