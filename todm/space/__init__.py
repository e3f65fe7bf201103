"""What a subnet is: specs, the space they are drawn from, and what they cost. No torch here."""
