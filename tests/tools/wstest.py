# The command of the Autobahn test suite, installed with pip's --target into the folder that AUTOBAHN names. Python 2.7.
import os
import site

# Reads the .pth files there, without which packages that share a namespace are not found.
site.addsitedir(os.environ["AUTOBAHN"])

from autobahntestsuite.wstest import run

run()
