"""The programs that run inside a sandbox, one file each, and the choice between them."""
