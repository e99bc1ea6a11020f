"""A hub on this machine, with a cache and a home of each test's own."""

from support.hub_server import hub as hub
from support.hub_server import server as server
