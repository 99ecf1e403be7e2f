# The command of the Autobahn test suite, for a suite that was installed with pip's --target. Python 2.7.
from autobahntestsuite.wstest import run

run()
