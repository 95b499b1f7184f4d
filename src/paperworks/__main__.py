"""`python -m paperworks` and `accelerate launch -m paperworks` are the command `paperworks`."""

from paperworks.cli import main

main()
