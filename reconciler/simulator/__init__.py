"""JumpCloud and Keeper on loopback, for the demo, for the tests and for trying things out."""
