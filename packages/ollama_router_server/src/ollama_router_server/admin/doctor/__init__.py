"""What is wrong, how grave it is, and what mends it: of this machine, and of the fleet as a running router sees it."""
