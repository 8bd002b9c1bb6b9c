"""The commands, each in a file of its name: `minimask export` is export.py. common.py has what they share."""
