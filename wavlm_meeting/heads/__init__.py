"""Small networks on the encoder's hidden states that more than one task uses."""
