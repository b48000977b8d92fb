"""What a process gives up before it reads untrusted bytes: the system call filter, files, privileges. Stdlib only."""
