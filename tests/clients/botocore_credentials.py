"""Fetches credentials as botocore does on an instance, and prints their source.

`python3 botocore_credentials.py`, with the version of botocore to use in PYTHONPATH.
"""

import collections
import collections.abc
import sys

# Calls the simulated metadata service only.
if "@imdsmon-sandbox" not in open("/proc/net/unix").read():
    sys.exit("outside the IMDS simulator")

# Libraries that botocore 1.12 brings along look for these where Python 3.10 has them no more.
# Nothing of it has to do with the metadata service.
for name in ("Callable", "Iterable", "Mapping", "MutableMapping"):
    if not hasattr(collections, name):
        setattr(collections, name, getattr(collections.abc, name))

import botocore
import botocore.credentials
import botocore.session
import botocore.utils


def main():
    session = botocore.session.Session()
    # What `Session.get_credentials` asks last; only the time is another than by default.
    fetcher = botocore.utils.InstanceMetadataFetcher(
        timeout=3, num_attempts=1, user_agent=session.user_agent()
    )
    provider = botocore.credentials.InstanceMetadataProvider(iam_role_fetcher=fetcher)
    credentials = provider.load()
    if credentials is None:
        sys.exit("no credentials")
    print(botocore.__version__, credentials.method)


main()
