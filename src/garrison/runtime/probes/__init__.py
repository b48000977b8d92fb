"""Scripts that try to get out. They run inside a sandbox, and once outside, to prove that they can see."""
