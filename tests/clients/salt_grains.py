"""Looks at the instance's metadata as Salt's grain `metadata` does.

`python3 salt_grains.py`, with Salt in PYTHONPATH.
"""

import sys

# Calls the simulated metadata service only.
if "@imdsmon-sandbox" not in open("/proc/net/unix").read():
    sys.exit("outside the IMDS simulator")

import salt.grains.metadata as metadata

# What Salt's loader gives to a grain.
metadata.__opts__ = {"metadata_server_grains": True}
metadata.__context__ = {}
if not metadata.__virtual__():
    sys.exit("no metadata")
# A part of it: all would be a hundred calls.
print(metadata._search("latest/meta-data/placement/"))
