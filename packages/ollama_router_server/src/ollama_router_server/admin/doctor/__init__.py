"""Problems of this machine and of a running router's fleet, with their severity and fix."""
