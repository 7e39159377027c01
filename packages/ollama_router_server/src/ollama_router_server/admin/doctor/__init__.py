"""What is wrong, how grave it is, and what fixes it: of this machine, and of the fleet as a running router sees it."""
