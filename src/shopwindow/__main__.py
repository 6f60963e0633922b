"""`python -m shopwindow` is the command `shopwindow`."""

from shopwindow.cli import main

main()
