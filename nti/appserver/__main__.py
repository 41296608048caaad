"""`python -m nti.appserver`: the command `nti-appserver`, where its script is not on the path."""

from nti.appserver.cli import main

if __name__ == "__main__":
    main(prog_name="nti-appserver")
