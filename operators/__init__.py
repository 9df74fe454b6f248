"""What looks: one file per operator, decoding, and the registry of models."""
