"""The command line in a clone, where nothing needs to be installed as a script: `python run.py --help`."""

from irexp.__main__ import main

if __name__ == "__main__":
    main()
