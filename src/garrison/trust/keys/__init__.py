"""Keys: what signs (in a PKCS#11 token), what verifies (public halves), and nothing that can be copied."""
