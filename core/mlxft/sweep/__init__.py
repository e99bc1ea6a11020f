"""Many runs that differ in a few parameters: what they are, and what became of them."""
