"""What detectors measured, and generators judged by it."""
