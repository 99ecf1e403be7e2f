"""Runs a program and gives what it prints."""

import subprocess
import sys


def attempt(*command, **how):
    """Its exit code, its stdout and its stderr."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **how)
    return done.returncode, done.stdout, done.stderr


def run(*command):
    """What it printed; ends everything if it fails."""
    code, printed, said = attempt(*command)
    if code:
        sys.exit(f"{' '.join(map(str, command))} exits with {code}:\n{printed}{said}")
    return printed
