"""Where models answer: a pool of kept-alive connections to Unix sockets and plain HTTP addresses."""
