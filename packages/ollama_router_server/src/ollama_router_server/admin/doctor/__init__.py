"""Problems, their severity and their fix: of this machine, and of the fleet as a running router sees it."""
